// What the bitstreams beside are made of: a counter that reads a table out of block RAM.
module blinky (
    input  wire clock,
    output reg  led
);
    reg [7:0] table_of_squares[0:511];
    reg [24:0] ticks = 0;
    reg [7:0] square;

    integer row;
    initial for (row = 0; row < 512; row = row + 1) table_of_squares[row] = (row * row) >> 3;

    always @(posedge clock) begin
        ticks  <= ticks + 1;
        square <= table_of_squares[ticks[24:16]];
        led    <= ^square;
    end
endmodule
