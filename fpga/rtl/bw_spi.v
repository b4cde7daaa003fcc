// SPI slave, mode 0, most significant bit first: bytes in, bytes out.
//
//   sck domain                         clk domain
//   mosi -> rx_shift -> rx_hold  ====> rx_byte, rx_valid        (rx_toggle is synchronised, rx_hold is stable)
//   miso <- tx_shift  <=============== tx_byte                  (stable while the next byte is clocked)
//
// The shift registers run on SCK itself, so a bit costs one SCK period whatever clk is. What crosses is
// a byte: it is held for eight SCK periods, which must be longer than the four clk periods that this
// module and its user need: SCK may be as fast as clk. Between two transactions CS must be high for at
// least eight clk periods.
`default_nettype none

module bw_spi (
    input  wire       clk,
    input  wire       sck,
    input  wire       cs_n,
    input  wire       mosi,
    output wire       miso,
    output wire       open,      // a transaction is under way, seen from clk
    output reg        rx_valid,  // one clk period: rx_byte is new
    output reg  [7:0] rx_byte,
    input  wire [7:0] tx_byte    // sent in the byte after the one being clocked when it is set
);

    // ---------------------------------------------------------------- on sck

    reg [2:0] bits;
    reg [6:0] rx_shift;
    reg [7:0] rx_hold;
    reg       rx_toggle;
    reg [7:0] tx_shift;

    initial begin
        bits = 3'd0;
        rx_toggle = 1'b0;
        tx_shift = 8'd0;
    end

    // A transaction that is cut short leaves no part of a byte behind.
    always @(posedge sck or posedge cs_n)
        if (cs_n) bits <= 3'd0;
        else bits <= bits + 3'd1;

    always @(posedge sck) begin
        rx_shift <= {rx_shift[5:0], mosi};
        if (bits == 3'd7) begin
            rx_hold   <= {rx_shift, mosi};
            rx_toggle <= ~rx_toggle;
        end
    end

    always @(negedge sck or posedge cs_n)
        if (cs_n) tx_shift <= 8'd0;
        else if (bits == 3'd0) tx_shift <= tx_byte;
        else tx_shift <= {tx_shift[6:0], 1'b0};

    assign miso = tx_shift[7];

    // ---------------------------------------------------------------- on clk

    reg [2:0] toggle_sync;
    reg [3:0] cs_sync;

    initial begin
        toggle_sync = 3'd0;
        cs_sync = 4'b1111;
        rx_valid = 1'b0;
    end

    always @(posedge clk) begin
        toggle_sync <= {toggle_sync[1:0], rx_toggle};
        rx_valid    <= toggle_sync[2] ^ toggle_sync[1];
        if (toggle_sync[2] ^ toggle_sync[1]) rx_byte <= rx_hold;
        // Two stages more than the toggle: the last byte of a transaction is seen before its end.
        cs_sync <= {cs_sync[2:0], cs_n};
    end

    assign open = ~cs_sync[3];

endmodule

`default_nettype wire
