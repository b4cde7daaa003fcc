// bw_host against a description of its frames that knows only the bytes: how many have come, what the
// header said, and the CRC of each part, made bit by bit. `fpga/rtl/build formal` proves it for any number
// of frames.
//
// Bytes come in any order, `GAP` clk or more apart; CS may rise at any clk; `done` comes at any clk, within
// `DONE_MAX` of `ask` (arbiter.sv proves that); a job becomes busy by `start` only, in the clk after it.
// No byte comes while CS is high (bw_spi sees the last byte of a frame before its end), none in reset.
`default_nettype none

module host (
    input wire        clk,
    input wire        reset,
    input wire        open,
    input wire        rx_valid,
    input wire [ 7:0] rx_byte,
    input wire        done,
    input wire [63:0] done_data,
    input wire        busy
);
    localparam GAP = 7;       // eight SCK, less one for what two clocks see differently
    localparam DONE_MAX = 6;  // clk that `ask` stands

    wire [ 7:0] tx_byte, last_tag;
    wire        ask, ask_write, set_valid, start;
    wire [ 1:0] ask_space;
    wire [13:0] ask_addr;
    wire [63:0] ask_data;
    wire [ 2:0] set;

    bw_host dut (
        .clk(clk), .reset(reset), .open(open), .rx_valid(rx_valid), .rx_byte(rx_byte), .tx_byte(tx_byte),
        .ask(ask), .ask_write(ask_write), .ask_space(ask_space), .ask_addr(ask_addr), .ask_data(ask_data),
        .done(done), .done_data(done_data), .set_valid(set_valid), .set(set),
        .busy(busy), .start(start), .last_tag(last_tag)
    );

    // ---------------------------------------------------------------- what comes from outside

    reg       first = 1'b1;      // clk of all
    reg [3:0] since = 4'd15;     // clk since the last byte
    reg [3:0] stood = 4'd0;      // clk that `ask` has stood
    reg       was_reset, was_open, was_busy, was_start, was_ask, was_done, was_read, was_valid;
    reg [1:0] was_space;

    always @(posedge clk) begin
        first <= 1'b0;
        since <= rx_valid ? 4'd1 : since == 4'd15 ? 4'd15 : since + 4'd1;
        stood <= ask ? stood + 4'd1 : 4'd0;
        {was_reset, was_open, was_busy, was_start} <= {reset, open, busy, start};
        {was_ask, was_done, was_read} <= {ask, done, ~ask_write};
        {was_valid, was_space} <= {rx_valid, ask_space};
    end

    always @* begin
        assume (~first | (reset & ~open & ~busy));
        assume (first | was_reset | ~reset);
        assume (~rx_valid | (open & ~reset & since >= GAP));
        assume (~ask | done | stood < DONE_MAX - 1);
        assume (first | ~busy | was_busy | was_start);
    end

    // ---------------------------------------------------------------- a frame, by its bytes

    function [15:0] folded(input [15:0] sum, input [7:0] value);
        integer i;
        begin
            folded = sum;
            for (i = 7; i >= 0; i = i - 1)
                folded = {folded[14:0], 1'b0} ^ (folded[15] ^ value[i] ? 16'h1021 : 16'd0);
        end
    endfunction

    reg  [11:0] seen = 12'd0;        // bytes of this frame
    reg  [ 7:0] verb, tag, space, low, high, count, before;
    reg  [15:0] sum = 16'hffff;      // of the part that is coming, without its CRC
    reg  [15:0] reply_sum;
    reg         header_whole = 1'b0;
    reg         payload_whole = 1'b0;
    reg  [ 2:0] what;
    reg         begun = 1'b0;
    reg  [ 7:0] begun_tag;
    reg  [63:0] last_eight;          // bytes
    reg  [63:0] word_read;

    wire        read       = verb == "R";
    wire        run        = verb == "X";
    wire        senseless  = ~(read | run | verb == "W") | space > 8'd3 | high > 8'h3f
                           | (space == 8'd3 & read) | (space == 8'd0 & (run | (~read & count != 8'd0)));
    wire [11:0] bytes      = {1'b0, count, 3'd0} + 12'd8;
    wire [11:0] check_at   = 12'd8 + bytes;                              // where each part begins
    wire [11:0] status_at  = read ? 12'd8 : check_at + 12'd2;
    wire        answered   = read & what == 3'd0;
    wire [11:0] words_at   = status_at + 12'd2;
    wire [11:0] seal_at    = words_at + (answered ? bytes : 12'd0);
    wire [11:0] deaf_at    = seal_at + 12'd2;
    wire        in_header  = seen < 12'd8;
    wire        in_payload = ~in_header & header_whole & ~read & seen < check_at;
    wire        in_check   = ~in_header & header_whole & ~read & seen >= check_at & seen < status_at;
    wire        in_status  = ~in_header & header_whole & seen >= status_at & seen < words_at;
    wire        in_words   = ~in_header & header_whole & seen >= words_at & seen < seal_at;
    wire        in_seal    = ~in_header & header_whole & seen >= seal_at & seen < deaf_at;
    wire        in_deaf    = ~in_header & (~header_whole | seen >= deaf_at);
    wire [11:0] part_at    = in_status ? status_at : in_words ? words_at : in_seal ? seal_at : 12'd0;
    wire [ 2:0] at         = seen[2:0] - part_at[2:0];                   // byte of its word
    wire [11:0] word       = (seen - (read ? words_at : 12'd8)) >> 3;    // in payload and words
    wire        word_ends  = at == 3'd7;
    wire        crc_right  = {before, rx_byte} == sum;
    wire [ 7:0] replied    = in_status ? (at == 3'd0 ? {4'ha, busy, what} : tag)
                           : in_words ? word_read[8 * at +: 8]
                           : in_seal ? (at == 3'd0 ? reply_sum[15:8] : reply_sum[7:0])
                           : 8'd0;

    // What must come of it.
    reg         must_ask = 1'b0;
    reg         must_write;
    reg  [ 1:0] must_space;
    reg  [13:0] must_addr;
    reg  [63:0] must_data;
    reg         must_start = 1'b0;
    reg         must_set = 1'b0;
    reg  [ 7:0] must_send = 8'd0;

    wire [13:0] from = {high[5:0], low};

    always @(posedge clk) begin
        must_start <= 1'b0;
        must_set   <= 1'b0;
        if (ask & done) begin
            must_ask <= 1'b0;
            if (~must_write) word_read <= done_data;
        end
        if (rx_valid) begin
            seen       <= seen == 12'hfff ? seen : seen + 12'd1;
            before     <= rx_byte;
            last_eight <= {rx_byte, last_eight[63:8]};
            must_send  <= replied;
            if ((in_header & seen < 12'd6) | in_payload) sum <= folded(sum, rx_byte);
            if (in_status | in_words) reply_sum <= folded(reply_sum, replied);
            case (seen)
                12'd0: verb <= rx_byte;
                12'd1: tag <= rx_byte;
                12'd2: space <= rx_byte;
                12'd3: low <= rx_byte;
                12'd4: high <= rx_byte;
                12'd5: count <= rx_byte;
                12'd7: begin
                    header_whole  <= crc_right;
                    payload_whole <= 1'b0;
                    sum           <= 16'hffff;
                    reply_sum     <= 16'hffff;
                    what          <= senseless ? 3'd2 : run & begun & tag == begun_tag ? 3'd4 : run & busy ? 3'd3 : 3'd0;
                    if (crc_right & read & ~senseless) must_ask <= 1'b1;
                    must_write    <= ~read;
                    must_space    <= space[1:0];
                    must_addr     <= from;
                end
                default: ;
            endcase
            if (in_payload & what == 3'd0 & space != 8'd0 & word_ends) begin
                must_ask  <= 1'b1;
                must_addr <= from + word[7:0];
            end
            if (in_payload & word_ends) must_data <= {rx_byte, last_eight[63:8]};
            if (in_words & word_ends & word[7:0] != count) begin
                must_ask  <= 1'b1;
                must_addr <= from + word[7:0] + 14'd1;
            end
            if (in_check & seen != check_at) begin
                payload_whole <= crc_right;
                reply_sum     <= 16'hffff;
                if (~crc_right) what <= 3'd1;
                must_start <= crc_right & what == 3'd0 & run;
                must_set   <= crc_right & what == 3'd0 & space == 8'd0;
                if (crc_right & what == 3'd0 & run) {begun, begun_tag} <= {1'b1, tag};
            end
        end
        if (~open) begin
            seen         <= 12'd0;
            header_whole <= 1'b0;
            sum          <= 16'hffff;
            must_send    <= 8'd0;
            if (~must_write) must_ask <= 1'b0;
        end
        if (reset) {must_ask, begun} <= 2'd0;
    end

    // ---------------------------------------------------------------- properties

    always @* if (~first) begin
        // Jobs and registers: by whole frames only, once for a tag, never while one runs.
        assert (start == must_start);
        assert (set_valid == must_set);
        assert (~(start | set_valid) | (header_whole & payload_whole & what == 3'd0));
        assert (~start | (run & ~busy));
        assert (~was_start | last_tag == tag); // in the clk in which it may be busy first
        assert (~set_valid | (verb == "W" & space == 8'd0 & set == low[2:0] & ask_data == must_data));

        // Words: none but the header's, each as it came, until it is done.
        assert (ask == must_ask);
        assert (~ask | (ask_write == must_write & ask_space == must_space & ask_addr == must_addr));
        assert (~(ask & ask_write) | (ask_data == must_data));
        assert (~(ask & ~was_ask) | (header_whole & was_valid));
        assert (was_valid | {~ask_write, ask_space} == {was_read, was_space});
        assert (~(ask & ask_write) | ask_space != 2'd0);
        assert (~(was_ask & ~was_done & ~was_reset) | ask | (was_read & ~was_open));

        // The end of a frame, and its answer.
        assert (was_open | (state == 3'd0 & place == 3'd0 & ~(ask & ~ask_write)));
        assert (tx_byte == must_send);
    end

    // A job of a tag that has begun one does not begin another: told by a memory of its own.
    reg       any_start = 1'b0;
    reg [7:0] last_start;
    always @(posedge clk) begin
        if (start) {any_start, last_start} <= {1'b1, tag};
        if (~first) assert (~(start & any_start) | tag != last_start);
    end

    // ---------------------------------------------------------------- what induction has to know

    wire [ 2:0] state, place;    // host.ys connects them to the parser's own
    wire        is_read, is_run, known, far, dut_begun;
    wire [ 7:0] dut_tag, left;
    wire [13:0] addr;
    wire [ 1:0] dut_space;
    wire [63:0] dut_word;
    wire [15:0] crc;
    wire [ 2:0] dut_what;

    always @* if (~first) begin
        assert (state == (in_header ? 3'd0 : in_payload ? 3'd1 : in_check ? 3'd2 : in_status ? 3'd3
                          : in_words ? 3'd4 : in_seal ? 3'd5 : 3'd6));
        assert (in_deaf | place == at);
        assert (in_header | ~header_whole | (must_write == ~read & must_space == space[1:0]));
        assert (~in_header | ~(header_whole | start | set_valid));
        assert (~ask | seen == 12'd0 | (header_whole & what == 3'd0 & at == 3'd0 & ~in_seal & (must_write | read)));
        assert (seen < 12'd1 | (is_read == read & is_run == run & known == (read | run | verb == "W")));
        assert (seen < 12'd2 | dut_tag == tag);
        assert (seen < 12'd3 | (dut_space == space[1:0] & (seen > 12'd4 | far == space > 8'd3)));
        assert (seen < 12'd4 | seen > 12'd7 | addr[7:0] == low);
        assert (seen < 12'd5 | seen > 12'd7 | addr[13:8] == high[5:0]);
        assert (seen < 12'd5 | far == (space > 8'd3 | high > 8'h3f));
        assert (~in_header | seen < 12'd6 | left == count);
        assert (~in_header | crc == (seen == 12'd7 ? folded(sum, before) : sum));
        assert (seen == 12'd0 | header_whole | in_header | in_deaf);
        assert (in_header | ~header_whole | what == dut_what);
        assert (in_header | ~header_whole | what == 3'd2 | what == 3'd1 | ~senseless);
        assert (~in_payload | what == 3'd2 | ~senseless);
        assert (~(in_payload | in_check) | (what != 3'd1));
        assert (~in_payload | (crc == sum & left == count - word[7:0]));
        assert (~in_payload | what != 3'd0 | space == 8'd0 | addr == from + word[7:0] - {13'd0, ask});
        assert (~(in_payload | in_check) | what != 3'd0 | space != 8'd0 | addr == from);
        assert (~ask | must_space != 2'd0 | ~must_write);
        assert (~in_payload | at == 3'd0 | (dut_word ^ last_eight) >> (64 - 8 * at) == 64'd0);
        assert (~(in_check | set_valid) | dut_word == must_data);
        assert (~in_check | crc == (seen == check_at ? sum : folded(sum, before)));
        assert (~(in_status & answered | in_words) | left == count - (in_words ? word[7:0] : 8'd0));
        assert (~answered | ~(in_status | in_words) | addr == from + (in_words ? word[7:0] : 8'd0) + {13'd0, ~ask});
        assert (~(in_status | in_words | in_seal) | crc == reply_sum | in_seal);
        assert (~in_seal | seen != seal_at | crc == reply_sum);
        assert (~in_seal | seen == seal_at | crc[15:8] == reply_sum[7:0]);
        assert (~in_words | ask | dut_word == word_read >> (8 * at));
        assert (~(in_status & answered) | ask | dut_word == word_read);
        assert (~(run & what == 3'd0 & (in_payload | in_check)) | ~(busy | start | was_start));
        assert (~(run & what == 3'd0 & (in_payload | in_check)) | ~begun | tag != begun_tag);
        assert (start | (dut_begun == begun & (~begun | last_tag == begun_tag)));
        assert (any_start | ~begun | start);
        assert (start | (begun == any_start & (~begun | begun_tag == last_start)));
        assert (~start | (begun & begun_tag == tag));
        assert (~start | since == 4'd1);
        assert (~ask | since == stood + 4'd1);
        assert (stood <= DONE_MAX);
        assert (was_ask == (stood != 4'd0));
        assert (~was_reset | (seen == 12'd0 & ~ask & ~start));
    end

    // ---------------------------------------------------------------- that all of it can happen

    (* keep *) wire reaches_run  = start & ~open & ask_data == 64'h0123456789abcdef; // a whole frame begins a job
    (* keep *) wire reaches_read = in_words & at == 3'd7 & word_read == 64'h0123456789abcdef;
endmodule

`default_nettype wire
