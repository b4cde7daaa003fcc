// One byte of CRC-16/CCITT-FALSE (polynomial 0x1021, start 0xffff, nothing reflected): what guards a
// frame in either direction. All errors of one or two bits and all bursts up to 16 bits are seen in
// frames shorter than 32,751 bits; the longest here has 16,432.
`default_nettype none

module bw_crc16 (
    input  wire [15:0] crc,
    input  wire [ 7:0] data,
    output wire [15:0] next
);
    // x = the byte folded into the high half; the rest follows from 0x1021 = x^12 + x^5 + 1.
    wire [7:0] x = crc[15:8] ^ data;
    wire [7:0] y = x ^ {4'd0, x[7:4]};
    assign next = {crc[7:0], 8'd0} ^ {y[3:0], 12'd0} ^ {3'd0, y, 5'd0} ^ {8'd0, y};
endmodule

`default_nettype wire
