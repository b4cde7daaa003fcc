// Weight memory of the UP5K: its four single-port RAMs of 16,384 x 16 bits side by side, all 128 KiB.
`default_nettype none

module bw_weights (
    input  wire        clk,
    input  wire [13:0] addr,
    input  wire        write,
    input  wire [63:0] wdata,
    output wire [63:0] rdata   // of the address one clk before
);
    genvar i;
    generate
        for (i = 0; i < 4; i = i + 1) begin : column
            SB_SPRAM256KA ram (
                .ADDRESS(addr),
                .DATAIN(wdata[16*i +: 16]),
                .MASKWREN(4'b1111),
                .WREN(write),
                .CHIPSELECT(1'b1),
                .CLOCK(clk),
                .STANDBY(1'b0),
                .SLEEP(1'b0),
                .POWEROFF(1'b1), // active low
                .DATAOUT(rdata[16*i +: 16])
            );
        end
    endgenerate
endmodule

`default_nettype wire
