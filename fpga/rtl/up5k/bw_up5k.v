// The engine on an iCE40 UP5K: clock, reset and pins.
`default_nettype none

module bw_up5k #(
    parameter [31:0] BUILD = 32'd0
) (
    input  wire sck,
    input  wire cs_n,
    input  wire mosi,
    output wire miso,   // high impedance while not selected
    output wire irq
);
    wire clk;

    SB_HFOSC #(.CLKHF_DIV("0b01")) oscillator ( // 24 MHz, 10 % either way
        .CLKHFPU(1'b1),
        .CLKHFEN(1'b1),
        .CLKHF(clk)
    );

    // The block RAMs answer a few clk after configuration (TN1250); nothing begins before.
    reg [5:0] awake = 6'd0;
    wire      reset = awake != 6'd63;
    always @(posedge clk) if (reset) awake <= awake + 6'd1;

    wire miso_out;
    SB_IO #(.PIN_TYPE(6'b1010_01)) miso_pin (.PACKAGE_PIN(miso), .OUTPUT_ENABLE(~cs_n), .D_OUT_0(miso_out));

    bw_over_spi #(.BUILD(BUILD)) engine (
        .clk(clk), .reset(reset), .sck(sck), .cs_n(cs_n), .mosi(mosi), .miso(miso_out), .irq(irq)
    );
endmodule

`default_nettype wire
