// Weight memory, 16,384 words of 64 bits, one port: behaviour only. For simulation, and for parts whose
// tools infer block RAM; the UP5K has up5k/bw_weights.v instead.
`default_nettype none

module bw_weights (
    input  wire        clk,
    input  wire [13:0] addr,
    input  wire        write,
    input  wire [63:0] wdata,
    output reg  [63:0] rdata   // of the address one clk before; kept while writing
);
    reg [63:0] words [0:16383];

    always @(posedge clk)
        if (write) words[addr] <= wdata;
        else rdata <= words[addr];

endmodule

`default_nettype wire
