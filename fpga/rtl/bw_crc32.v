// CRC-32 (the one of Ethernet and zlib) of a range of the weight memory, so that the host can tell that
// the weights are still what it wrote. 32 clk a word; the engine may run meanwhile.
`default_nettype none

module bw_crc32 (
    input  wire        clk,
    input  wire        reset,
    input  wire        start,
    input  wire [13:0] from,
    input  wire [13:0] count,     // less one
    output wire        busy,
    output reg  [31:0] crc,
    output reg         ask,       // for the word at `addr`, until `taken`
    output reg  [13:0] addr,
    input  wire        taken,
    input  wire [63:0] data       // two clk after `taken`
);
    reg  [13:0] left;
    reg  [ 2:0] place;
    reg  [ 7:0] value;
    reg         waiting, loading, folding;

    assign busy = ask | waiting | loading | folding;

    function [31:0] fold(input [31:0] old, input [7:0] by);
        integer i;
        begin
            fold = old ^ {24'd0, by};
            for (i = 0; i < 8; i = i + 1) fold = {1'b0, fold[31:1]} ^ (fold[0] ? 32'hedb88320 : 32'd0);
        end
    endfunction

    initial {ask, waiting, loading, folding} = 4'd0;

    always @(posedge clk) begin
        waiting <= ask & taken;
        loading <= waiting;
        folding <= loading;
        if (ask & taken) ask <= 1'b0;
        if (loading) begin // a word is read eight times: that is dearer in clk and cheaper in cells
            value <= data[8*place +: 8];
            place <= place + 3'd1;
            ask   <= place != 3'd7 | left != 14'd0;
            if (place == 3'd7) begin
                addr <= addr + 14'd1;
                left <= left - 14'd1;
            end
        end
        if (folding) crc <= fold(crc, value);
        if (start & ~busy) begin
            crc   <= 32'hffffffff;
            addr  <= from;
            left  <= count;
            place <= 3'd0;
            ask   <= 1'b1;
        end
        if (reset) {ask, waiting, loading, folding} <= 4'd0;
    end
endmodule

`default_nettype wire
