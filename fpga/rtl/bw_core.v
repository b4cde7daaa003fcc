// The engine: memories, who may use them when, and what flows between the parts.
//
//              words   +---------------------------+
//   bw_over_   ------->| weights  16,384 x 64 bit  |--+--> bw_seq (layers)
//   spi, axi   <-------| table       256 x 64 bit  |  |
//                      | activations 2 x 768 x 64  |  v
//                      +---------------------------+ bw_mac --> bw_requant --> activations
//       bw_seq: addresses --^                         16 products a clk
//
// An address that is asked for in clk 0 is in the memory's register in clk 1, and the word is there in
// clk 2. The host and the CRC take a clk of the weight memory and of the activations' read ports by `hold`;
// results have precedence over the host at the activations' write port.
//
// The host asks for words seven clk apart or more. What it asks with stands that long, `ask` until `done`.
`default_nettype none

module bw_core #(
    parameter [31:0] BUILD = 32'd0
) (
    input  wire        clk,
    input  wire        reset,
    // words of the memories and registers; what was read is there with `done`
    input  wire        ask,
    input  wire        ask_write,
    input  wire [ 1:0] ask_space,
    input  wire [13:0] ask_addr,
    input  wire [63:0] ask_data,
    output reg         done,
    output wire [63:0] done_data,
    // one clk: writes ask_data to register `set`
    input  wire        set_valid,
    input  wire [ 2:0] set,
    // jobs
    input  wire        start,
    input  wire [ 7:0] last_tag,
    output wire        busy,
    output wire        irq        // a job ended and none has begun since
);
    `include "bw_registers.vh"

    // ---------------------------------------------------------------- registers

    reg  [13:0] job_from;
    reg  [23:0] limit;
    reg         stop_asked, ended;
    wire        failed;
    wire [23:0] cycles, taps;
    wire        crc_busy, crc_ask;
    reg         crc_taken;
    initial     crc_taken = 1'b0;
    wire [31:0] crc;
    wire [13:0] crc_addr;
    wire [63:0] w_data;
    reg         busy_before;

    initial begin
        stop_asked = 1'b0;
        ended = 1'b0;
        busy_before = 1'b0;
        limit = 24'd0;
    end

    always @(posedge clk) begin
        stop_asked  <= set_valid & set == REGISTER_STOP;
        busy_before <= busy;
        ended       <= (ended | (busy_before & ~busy)) & ~start & ~reset;
        if (set_valid & set == REGISTER_JOB) begin
            job_from <= ask_data[13:0];
            limit   <= ask_data[55:32];
        end
    end

    assign irq = ended;

    bw_crc32 crc32 (
        .clk(clk), .reset(reset), .start(set_valid & set == REGISTER_CHECK),
        .from(ask_data[13:0]), .count(ask_data[29:16]), .busy(crc_busy), .crc(crc),
        .ask(crc_ask), .addr(crc_addr), .taken(crc_taken), .data(w_data)
    );

    reg [31:0] register_data; // registers have 32 bits; what is above reads as whatever is there
    always @(posedge clk) case (ask_addr[2:0])
        REGISTER_ID:     register_data <= ENGINE_ID;
        REGISTER_BUILD:  register_data <= BUILD;
        REGISTER_STATUS: register_data <= {16'd0, last_tag, 4'd0, crc_busy, ended, failed, busy};
        REGISTER_CYCLES: register_data <= {8'd0, cycles};
        REGISTER_TAPS:   register_data <= {8'd0, taps};
        default:         register_data <= ~crc;
    endcase

    // ---------------------------------------------------------------- who uses which memory

    // The host's word: its clk is taken; the address is in the memories' registers; the word is there, done.
    // Writes to the activations and to the table have ports of their own and take no clk.
    reg         host_take, host_wait, result_valid, hold;
    wire        host_clk     = ask & (~ask_write | ask_space == SPACE_WEIGHTS);
    wire        a_write_host = ask & ask_write & ask_space == SPACE_ACTIVATIONS & ~result_valid & ~done;
    wire        t_write_host = ask & ask_write & ask_space == SPACE_TABLE & ~done;
    wire        host_next    = host_clk & ~host_take & ~host_wait & ~done;
    initial {host_take, host_wait, done, hold} = 4'd0;

    always @(posedge clk) begin
        host_take <= host_next;
        crc_taken <= crc_ask & ~crc_taken & ~host_next;
        hold      <= host_next | (crc_ask & ~crc_taken);
        host_wait <= host_take;
        done      <= host_wait | a_write_host | t_write_host;
        if (reset) {host_take, host_wait, done, crc_taken, hold} <= 5'd0;
    end

    // ---------------------------------------------------------------- the sequencer

    wire        stop, clear, sums, greatest, pair, from_table;
    wire [ 7:0] zero_point, lowest, highest;
    wire [ 9:0] pad_word;
    wire [13:0] w_addr;
    wire [ 9:0] a_addr0, a_addr1;
    wire        a_pad0, a_pad1, t_read;
    wire [ 7:0] t_addr;
    wire        tap_valid, tap_first, tap_last, tap_swap, parameter_valid, parameter_lane;
    wire [ 2:0] lane;
    wire        group, idle;
    wire [14:0] group_tag;

    bw_seq seq (
        .clk(clk), .reset(reset | stop_asked), .start(start), .job_from(job_from), .limit(limit), .hold(hold),
        .busy(busy), .failed(failed), .stop(stop), .cycles(cycles), .taps(taps),
        .w_addr(w_addr), .a_addr0(a_addr0), .a_addr1(a_addr1), .a_pad0(a_pad0), .a_pad1(a_pad1),
        .t_addr(t_addr), .t_read(t_read), .w_data(w_data),
        .tap_valid(tap_valid), .tap_first(tap_first), .tap_last(tap_last), .tap_swap(tap_swap),
        .parameter_valid(parameter_valid), .parameter_lane(parameter_lane), .lane(lane),
        .group(group), .group_tag(group_tag), .idle(idle),
        .clear(clear), .sums(sums), .greatest(greatest), .pair(pair), .from_table(from_table),
        .zero_point(zero_point), .lowest(lowest), .highest(highest), .pad_word(pad_word)
    );

    // ---------------------------------------------------------------- memories

    reg  [13:0] w_addr_1;
    reg         w_write_1;
    reg  [ 9:0] a_addr0_1, a_addr1_1;
    reg         t_read_1, swap;
    reg  [ 7:0] t_addr_1;
    initial w_write_1 = 1'b0;

    always @(posedge clk) begin
        w_addr_1  <= host_take ? ask_addr : crc_taken ? crc_addr : w_addr;
        w_write_1 <= host_take & ask_write;
        a_addr0_1 <= host_take ? ask_addr[9:0] : a_addr0;
        a_addr1_1 <= host_take ? ask_addr[9:0] : a_addr1;
        swap      <= host_wait ? ask_addr[10] : tap_swap;
        t_addr_1  <= t_addr;
        t_read_1  <= t_read;
    end

    bw_weights weights (.clk(clk), .addr(w_addr_1), .write(w_write_1), .wdata(ask_data), .rdata(w_data));

    wire [63:0] bank0, bank1;
    reg  [ 9:0] write_addr;
    reg  [ 7:0] write0, write1;
    reg  [63:0] write_data;
    initial {write0, write1} = 16'd0;

    bw_bank bank_0 (
        .clk(clk), .raddr(a_pad0 & ~host_wait ? pad_word : a_addr0_1), .rdata(bank0),
        .waddr(write_addr), .write(write0), .wdata(write_data)
    );
    bw_bank bank_1 (
        .clk(clk), .raddr(a_pad1 & ~host_wait ? pad_word : a_addr1_1), .rdata(bank1),
        .waddr(write_addr), .write(write1), .wdata(write_data)
    );

    (* no_rw_check *) reg [63:0] table_words [0:255];
    reg [63:0] table_word; // stands until the next is read

    always @(posedge clk) begin
        if (t_write_host) table_words[ask_addr[7:0]] <= ask_data;
        if (t_read_1) table_word <= table_words[t_addr_1];
    end

    // The host finds its word where the first of two columns is.
    wire [63:0] column0     = swap ? bank1 : bank0;
    wire [63:0] column1     = swap ? bank0 : bank1;
    wire [63:0] memory_data = ask_space == SPACE_ACTIVATIONS ? column0 : w_data;
    assign      done_data   = {memory_data[63:32], ask_space == SPACE_REGISTERS ? register_data : memory_data[31:0]};

    // ---------------------------------------------------------------- sums, and back to eight bits

    reg [63:0] parameter_; // of the results that leave bw_mac: bias, scale

    always @(posedge clk) if (parameter_valid) parameter_ <= from_table ? table_word : w_data;

    wire        sum_valid;
    wire [31:0] sum;
    wire [ 3:0] sum_tag;

    bw_mac mac (
        .clk(clk), .reset(stop), .clear(clear), .sums(sums), .greatest(greatest), .pair(pair),
        .tap_valid(tap_valid), .tap_first(tap_first), .tap_last(tap_last),
        .weights(w_data), .column0(column0), .column1(column1),
        .lane_valid(parameter_valid & parameter_lane), .lane(lane),
        .out_valid(sum_valid), .out_sum(sum), .out_tag(sum_tag)
    );

    wire        out_valid;
    wire [ 7:0] out;
    wire [ 3:0] out_tag;

    bw_requant requant (
        .clk(clk), .reset(stop), .in_valid(sum_valid), .in_sum(sum), .in_tag(sum_tag),
        .bias(parameter_[31:0]), .scale(parameter_[62:32]),
        .zero_point(zero_point), .lowest(lowest), .highest(highest),
        .out_valid(out_valid), .out(out), .out_tag(out_tag)
    );

    // ---------------------------------------------------------------- where results go

    // Groups wait here from their last tap until their last result: 25 clk, and one ends every four, so seven at
    // most. A pair waits for 29, of every eight; lanes are alone.
    (* no_rw_check *) reg [14:0] waiting [0:255];
    reg  [14:0] first_waiting;
    reg  [ 7:0] waiting_to, waiting_from;
    initial {waiting_to, waiting_from} = 16'd0;

    wire        second     = sums & out_tag[0];
    wire [ 2:0] result_byte = sums ? first_waiting[12:10] : out_tag[2:0];

    always @(posedge clk) begin
        if (group) waiting[waiting_to] <= group_tag;
        first_waiting <= waiting[waiting_from];
        if (group) waiting_to <= waiting_to + 8'd1;
        if (out_valid & out_tag[3]) waiting_from <= waiting_from + 8'd1;
        if (stop) {waiting_to, waiting_from} <= 16'd0;
    end

    assign idle = waiting_to == waiting_from;

    reg        result_bank;
    reg  [2:0] result_at;
    reg  [9:0] result_word;
    reg  [7:0] result;
    initial result_valid = 1'b0;

    always @(posedge clk) begin
        result_valid <= out_valid & (~second | first_waiting[14]) & ~stop;
        result_bank  <= first_waiting[13] | second;
        result_at    <= result_byte;
        result_word  <= first_waiting[9:0];
        result       <= out;

        write_addr <= result_valid ? result_word : ask_addr[9:0];
        write_data <= result_valid ? {8{result}} : ask_data;
        write0     <= result_valid ? {7'd0, ~result_bank} << result_at : {8{a_write_host & ~ask_addr[10]}};
        write1     <= result_valid ? {7'd0, result_bank} << result_at : {8{a_write_host & ask_addr[10]}};
    end
endmodule

`default_nettype wire
