// What the host says, in frames of bytes; and what it is answered.
//
//   write   57 tag space addr.lo addr.hi count-1 crc.hi crc.lo | 8 bytes a word ... crc.hi crc.lo | 2 idle | status tag crc.hi crc.lo
//   run     58, otherwise like write: and when that has arrived whole, begin the job
//   read    52 tag space addr.lo addr.hi count-1 crc.hi crc.lo | 2 idle | status tag  8 bytes a word ... crc.hi crc.lo
//
// Every part ends with its CRC-16; numbers are little-endian, the CRC is not. A header that is not whole is
// not answered, and nothing happens. A payload that is not whole has been written to memory and is said to
// be broken: the host sends it again. Registers are written, and jobs begun, only by what is whole. A run
// frame with the tag of the job begun last was sent again because its answer was lost: it is answered and
// does nothing.
//
// status: a, busy, what (0 done, 1 payload broken, 2 makes no sense, 3 busy, 4 already begun)
// space: 0 registers, 1 weights, 2 activations (bit 10 of the address: the bank), 3 table (write only)
`default_nettype none

module bw_host (
    input  wire        clk,
    input  wire        reset,
    // bytes
    input  wire        open,
    input  wire        rx_valid,
    input  wire [ 7:0] rx_byte,
    output reg  [ 7:0] tx_byte,
    // words: `ask` stands until `done`; what was read is there with it
    output reg         ask,
    output wire        ask_write,
    output wire [ 1:0] ask_space,
    output wire [13:0] ask_addr,
    output wire [63:0] ask_data,
    input  wire        done,
    input  wire [63:0] done_data,
    // registers
    output reg         set_valid,     // one clk: write ask_data to register `set`
    output wire [ 2:0] set,
    // jobs
    input  wire        busy,
    output reg         start,
    output reg  [ 7:0] last_tag
);
    localparam [2:0] HEADER = 3'd0, PAYLOAD = 3'd1, CHECK = 3'd2, STATUS = 3'd3, REPLY = 3'd4, SEAL = 3'd5,
                     DEAF = 3'd6;
    localparam [2:0] DONE = 3'd0, BROKEN = 3'd1, SENSELESS = 3'd2, BUSY = 3'd3, REPEATED = 3'd4;

    reg  [ 2:0] state;
    reg  [ 2:0] place;         // byte of the header or of a word
    reg         is_read, is_run, known;
    reg  [ 7:0] tag;
    reg  [ 1:0] space;
    reg         far;           // the space or the address lies outside
    reg  [13:0] addr;
    reg  [ 7:0] left;          // words, less one
    reg  [63:0] word;
    reg  [15:0] crc;
    reg  [ 2:0] what;
    reg         begun;         // a job was begun since reset, so last_tag means something

    wire [ 7:0] about = place[0] ? tag : {4'ha, busy, what};
    reg  [ 7:0] crc_in;
    always @* case (state)
        STATUS:  crc_in = about;
        REPLY:   crc_in = word[7:0];
        default: crc_in = rx_byte;
    endcase

    wire [15:0] crc_next;
    bw_crc16 crc16 (.crc(crc), .data(crc_in), .next(crc_next));

    wire        whole    = crc == {rx_byte, 8'd0}; // with its last byte the CRC is 0
    wire        repeated = is_run & begun & (tag == last_tag);
    wire        accepts  = what == DONE;

    reg  [ 7:0] tx_next;
    always @* case (state)
        STATUS:  tx_next = about;
        REPLY:   tx_next = word[7:0];
        SEAL:    tx_next = crc[15:8];
        default: tx_next = 8'd0;
    endcase

    assign ask_write = ~is_read;
    assign ask_space = space;
    assign ask_addr  = addr;
    assign ask_data  = word;
    assign set       = addr[2:0];

    initial begin
        state = HEADER;
        ask = 1'b0;
        begun = 1'b0;
        last_tag = 8'd0;
        tx_byte = 8'd0;
        start = 1'b0;
        set_valid = 1'b0;
    end

    // What a header asks for, once it has arrived whole.
    wire [2:0] judged = ~known | far | (space == 2'd3 & is_read) | (space == 2'd0 & (is_run | (~is_read & left != 8'd0)))
                        ? SENSELESS
                        : repeated ? REPEATED
                        : is_run & busy ? BUSY
                        : DONE;

    always @(posedge clk) begin
        start     <= 1'b0;
        set_valid <= 1'b0;
        if (ask & done) begin
            ask  <= 1'b0;
            addr <= addr + 14'd1;
            if (is_read) word <= done_data;
        end

        if (start) begin
            begun    <= 1'b1;
            last_tag <= tag;
        end

        if (rx_valid) begin
            place   <= place + 3'd1;
            crc     <= crc_next;
            tx_byte <= tx_next;
            case (state)
                HEADER: begin
                    case (place)
                        3'd0: begin
                            is_read <= rx_byte == 8'h52;
                            is_run  <= rx_byte == 8'h58;
                            known   <= rx_byte == 8'h52 | rx_byte == 8'h57 | rx_byte == 8'h58;
                        end
                        3'd1: tag <= rx_byte;
                        3'd2: begin
                            space <= rx_byte[1:0];
                            far   <= rx_byte[7:2] != 6'd0;
                        end
                        3'd3: addr[7:0] <= rx_byte;
                        3'd4: begin
                            addr[13:8] <= rx_byte[5:0];
                            far        <= far | rx_byte[7:6] != 2'd0;
                        end
                        3'd5: left <= rx_byte;
                        3'd7: begin
                            crc   <= 16'hffff;
                            what  <= judged;
                            state <= ~whole ? DEAF : is_read ? STATUS : PAYLOAD;
                            ask   <= whole & is_read & ~far & space != 2'd3;
                        end
                        default: ;
                    endcase
                end
                PAYLOAD: begin
                    word <= {rx_byte, word[63:8]};
                    if (place == 3'd7) begin
                        ask  <= accepts & space != 2'd0;
                        left <= left - 8'd1;
                        if (left == 8'd0) state <= CHECK;
                    end
                end
                CHECK: if (place == 3'd1) begin
                    crc <= 16'hffff;
                    if (~whole) what <= BROKEN;
                    set_valid <= whole & accepts & space == 2'd0;
                    start     <= whole & accepts & is_run;
                    place <= 3'd0;
                    state <= STATUS;
                end
                STATUS: if (place == 3'd1) begin
                    place <= 3'd0;
                    state <= is_read & accepts ? REPLY : SEAL;
                end
                REPLY: begin
                    word <= {8'd0, word[63:8]};
                    if (place == 3'd7) begin
                        ask  <= left != 8'd0;
                        left <= left - 8'd1;
                        if (left == 8'd0) state <= SEAL;
                    end
                end
                SEAL: begin
                    crc <= {crc[7:0], 8'd0};
                    if (place == 3'd1) state <= DEAF;
                end
                default: tx_byte <= 8'd0; // deaf
            endcase
        end

        if (~open) begin
            state   <= HEADER;
            place   <= 3'd0;
            crc     <= 16'hffff;
            tx_byte <= 8'd0;
            ask     <= ask & ask_write & ~done; // the last word of a frame that was cut short
        end
        if (reset) begin
            ask   <= 1'b0;
            begun <= 1'b0;
        end
    end
endmodule

`default_nettype wire
