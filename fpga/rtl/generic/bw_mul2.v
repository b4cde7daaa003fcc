// Two signed 8x8 products that share a factor, in two clk periods: behaviour only. The UP5K has
// up5k/bw_mul2.v instead.
`default_nettype none

module bw_mul2 (
    input  wire               clk,
    input  wire signed [ 7:0] w,
    input  wire signed [ 7:0] a0,
    input  wire signed [ 7:0] a1,
    output reg  signed [15:0] p0,
    output reg  signed [15:0] p1
);
    reg signed [7:0] w_q, a0_q, a1_q;

    always @(posedge clk) begin
        w_q  <= w;
        a0_q <= a0;
        a1_q <= a1;
        p0   <= w_q * a0_q;
        p1   <= w_q * a1_q;
    end
endmodule

`default_nettype wire
