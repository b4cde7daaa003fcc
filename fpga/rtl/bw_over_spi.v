// The engine behind SPI: five pins.
`default_nettype none

module bw_over_spi #(
    parameter [31:0] BUILD = 32'd0
) (
    input  wire clk,
    input  wire reset,
    input  wire sck,
    input  wire cs_n,
    input  wire mosi,
    output wire miso,
    output wire irq
);
    wire        open, rx_valid;
    wire [ 7:0] rx_byte, tx_byte;

    bw_spi spi (
        .clk(clk), .sck(sck), .cs_n(cs_n), .mosi(mosi), .miso(miso),
        .open(open), .rx_valid(rx_valid), .rx_byte(rx_byte), .tx_byte(tx_byte)
    );

    wire        ask, ask_write, done, set_valid, start, busy;
    wire [ 1:0] ask_space;
    wire [13:0] ask_addr;
    wire [63:0] ask_data, done_data;
    wire [ 2:0] set;
    wire [ 7:0] last_tag;

    bw_host host (
        .clk(clk), .reset(reset), .open(open), .rx_valid(rx_valid), .rx_byte(rx_byte), .tx_byte(tx_byte),
        .ask(ask), .ask_write(ask_write), .ask_space(ask_space), .ask_addr(ask_addr), .ask_data(ask_data),
        .done(done), .done_data(done_data), .set_valid(set_valid), .set(set),
        .busy(busy), .start(start), .last_tag(last_tag)
    );

    bw_core #(.BUILD(BUILD)) core (
        .clk(clk), .reset(reset),
        .ask(ask), .ask_write(ask_write), .ask_space(ask_space), .ask_addr(ask_addr), .ask_data(ask_data),
        .done(done), .done_data(done_data), .set_valid(set_valid), .set(set),
        .start(start), .last_tag(last_tag), .busy(busy), .irq(irq)
    );
endmodule

`default_nettype wire
