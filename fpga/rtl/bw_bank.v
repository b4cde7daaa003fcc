// One bank of the activation memory: 768 words of eight bytes, one port to read and one to write, each
// byte by itself. Twelve block RAMs of the UP5K: eight of 512 x 8 and four of 256 x 16, which leaves two
// words to choose from, where twelve of 256 x 16 would leave three.
//
// A read in the same clk as a write of the same word gives either; the sequencer never does that, as a
// layer's output does not overlap what it still reads.
`default_nettype none

module bw_bank (
    input  wire        clk,
    input  wire [ 9:0] raddr,
    output wire [63:0] rdata,  // of the address one clk before
    input  wire [ 9:0] waddr,
    input  wire [ 7:0] write,  // a bit for each byte
    input  wire [63:0] wdata
);
    reg  [63:0] from_lower, from_upper;
    reg         is_upper;
    assign      rdata = is_upper ? from_upper : from_lower;

    genvar i;
    generate
        for (i = 0; i < 8; i = i + 1) begin : byte_lane
            (* no_rw_check *) reg [7:0] lower [0:511];

            always @(posedge clk) begin
                from_lower[8*i +: 8] <= lower[raddr[8:0]];
                if (write[i] & ~waddr[9]) lower[waddr[8:0]] <= wdata[8*i +: 8];
            end
        end
    endgenerate

    (* no_rw_check *) reg [63:0] upper [0:255];
    integer j;

    always @(posedge clk) begin
        is_upper   <= raddr[9];
        from_upper <= upper[raddr[7:0]];
        for (j = 0; j < 8; j = j + 1)
            if (write[j] & waddr[9]) upper[waddr[7:0]][8*j +: 8] <= wdata[8*j +: 8];
    end
endmodule

`default_nettype wire
