// Two signed 8x8 products that share a factor: one DSP block of the UP5K, its upper and lower half
// used apart, inputs and products registered.
`default_nettype none

module bw_mul2 (
    input  wire               clk,
    input  wire signed [ 7:0] w,
    input  wire signed [ 7:0] a0,
    input  wire signed [ 7:0] a1,
    output wire signed [15:0] p0,
    output wire signed [15:0] p1
);
    SB_MAC16 #(
        .NEG_TRIGGER(1'b0),
        .C_REG(1'b0),
        .A_REG(1'b1),
        .B_REG(1'b1),
        .D_REG(1'b0),
        .TOP_8x8_MULT_REG(1'b1),
        .BOT_8x8_MULT_REG(1'b1),
        .PIPELINE_16x16_MULT_REG1(1'b0),
        .PIPELINE_16x16_MULT_REG2(1'b0),
        .TOPOUTPUT_SELECT(2'b10), // the 8x8 product
        .TOPADDSUB_LOWERINPUT(2'b00),
        .TOPADDSUB_UPPERINPUT(1'b0),
        .TOPADDSUB_CARRYSELECT(2'b00),
        .BOTOUTPUT_SELECT(2'b10),
        .BOTADDSUB_LOWERINPUT(2'b00),
        .BOTADDSUB_UPPERINPUT(1'b0),
        .BOTADDSUB_CARRYSELECT(2'b00),
        .MODE_8x8(1'b1),
        .A_SIGNED(1'b1),
        .B_SIGNED(1'b1)
    ) dsp (
        .CLK(clk),
        .CE(1'b1),
        .A({w, w}),
        .B({a1, a0}),
        .C(16'd0),
        .D(16'd0),
        .AHOLD(1'b0),
        .BHOLD(1'b0),
        .CHOLD(1'b0),
        .DHOLD(1'b0),
        .IRSTTOP(1'b0),
        .IRSTBOT(1'b0),
        .ORSTTOP(1'b0),
        .ORSTBOT(1'b0),
        .OLOADTOP(1'b0),
        .OLOADBOT(1'b0),
        .ADDSUBTOP(1'b0),
        .ADDSUBBOT(1'b0),
        .OHOLDTOP(1'b0),
        .OHOLDBOT(1'b0),
        .CI(1'b0),
        .ACCUMCI(1'b0),
        .SIGNEXTIN(1'b0),
        .O({p1, p0}),
        .CO(),
        .ACCUMCO(),
        .SIGNEXTOUT()
    );
endmodule

`default_nettype wire
