// bw_core's memories, and who uses which when: the real bw_core, bw_seq and bw_crc32, between a host, an
// arithmetic and memories that do anything they may.
//
// Of each memory one word is looked at: any, but the same for ever, so what holds for it holds for all.
// bw_mac and the two small memories of bw_core (groups that wait, bias and scale) say anything: arbiter.ys
// leaves them out, as their words are no matter here.
`default_nettype none

// Any host of which host.sv and axi.sv are true: words seven clk apart or more, unchanged meanwhile, until they
// are done.
module any_host (
    input  wire        clk,
    input  wire        reset,
    output wire        ask,
    output wire        ask_write,
    output wire [ 1:0] ask_space,
    output wire [13:0] ask_addr,
    output wire [63:0] ask_data,
    input  wire        done,
    output wire        set_valid,
    output wire [ 2:0] set,
    output wire        start,
    output wire [ 7:0] last_tag
);
    localparam GAP = 7;

    reg        was_ask = 1'b0;
    reg        was_done = 1'b0;
    reg [ 3:0] since = 4'd15;   // clk since a word was asked for
    reg        was_write;
    reg [ 1:0] was_space;
    reg [13:0] was_addr;
    reg [63:0] was_data;

    always @(posedge clk) begin
        {was_ask, was_done} <= {ask, done};
        since     <= ask & ~was_ask ? 4'd1 : since == 4'd15 ? 4'd15 : since + 4'd1;
        was_write <= ask_write;
        was_space <= ask_space;
        was_addr  <= ask_addr;
        was_data  <= ask_data;
    end

    always @* begin
        assume (~reset | ~ask);
        assume (~ask | was_ask | since >= GAP);
        assume (~ask | ~was_ask | ~was_done);
        assume (~(ask & ask_write) | ask_space != 2'd0);          // registers are not written by words
        assume (ask | ~was_ask | was_done | ~was_write | reset); // only reads are given up
        assume (since >= GAP | {ask_write, ask_space} == {was_write, was_space});
        assume (~ask | ~was_ask | {ask_addr, ask_data} == {was_addr, was_data});
    end
endmodule

// Any results, but not two in two clk: bw_requant takes four for each.
module bw_requant (
    input  wire        clk,
    input  wire        reset,
    input  wire        in_valid,
    input  wire [31:0] in_sum,
    input  wire [31:0] bias,
    input  wire [30:0] scale,
    input  wire [ 7:0] zero_point,
    input  wire [ 7:0] lowest,
    input  wire [ 7:0] highest,
    input  wire [ 3:0] in_tag,
    output wire        out_valid,
    output wire [ 7:0] out,
    output wire [ 3:0] out_tag
);
    wire any;
    reg  was_valid = 1'b0;
    always @(posedge clk) was_valid <= out_valid;
    assign out_valid = any & ~was_valid;
endmodule

module bw_weights (
    input  wire        clk,
    input  wire [13:0] addr,
    input  wire        write,
    input  wire [63:0] wdata,
    output wire [63:0] rdata
);
    wire [13:0] at;              // the one word
    wire [63:0] any;
    reg  [13:0] was_at;
    reg         first = 1'b1;
    reg  [63:0] word, read;
    reg         known = 1'b0;

    always @(posedge clk) begin
        {first, was_at} <= {1'b0, at};
        known <= ~write & addr == at;
        read  <= word;
        if (write & addr == at) word <= wdata;
    end

    always @* assume (first | at == was_at);
    assign rdata = known ? read : any; // and anything after a write
endmodule

module bw_bank (
    input  wire        clk,
    input  wire [ 9:0] raddr,
    output wire [63:0] rdata,
    input  wire [ 9:0] waddr,
    input  wire [ 7:0] write,
    input  wire [63:0] wdata
);
    wire [ 9:0] at;
    wire [63:0] any;
    reg  [ 9:0] was_at;
    reg         first = 1'b1;
    reg  [63:0] word, read;
    reg         known = 1'b0;
    integer     i;

    wire written = write != 8'd0 & waddr == at;

    always @(posedge clk) begin
        {first, was_at} <= {1'b0, at};
        known <= raddr == at & ~written;
        read  <= word;
        for (i = 0; i < 8; i = i + 1) if (write[i] & waddr == at) word[8*i +: 8] <= wdata[8*i +: 8];
    end

    always @* assume (first | at == was_at);
    assign rdata = known ? read : any; // and anything of a word that is being written
endmodule

module bw_mac (
    input  wire clk, input wire reset, input wire clear, input wire sums, input wire greatest, input wire pair,
    input  wire tap_valid, input wire tap_first, input wire tap_last, input wire [63:0] weights,
    input  wire [63:0] column0, input wire [63:0] column1, input wire lane_valid, input wire [2:0] lane,
    output wire out_valid, output wire [31:0] out_sum, output wire [3:0] out_tag
);
endmodule

module arbiter (
    input wire clk,
    input wire reset
);
    localparam [1:0] WEIGHTS = 2'd1, ACTIVATIONS = 2'd2, TABLE = 2'd3;
    localparam DONE_MAX = 4; // clk that a host's word takes

    wire        ask, ask_write, done, set_valid, start;
    wire [ 1:0] ask_space;
    wire [13:0] ask_addr;
    wire [63:0] ask_data, done_data;
    wire [ 2:0] set;
    wire [ 7:0] last_tag;

    any_host host (
        .clk(clk), .reset(reset),
        .ask(ask), .ask_write(ask_write), .ask_space(ask_space), .ask_addr(ask_addr), .ask_data(ask_data),
        .done(done), .set_valid(set_valid), .set(set), .start(start), .last_tag(last_tag)
    );
    bw_core core (
        .clk(clk), .reset(reset),
        .ask(ask), .ask_write(ask_write), .ask_space(ask_space), .ask_addr(ask_addr), .ask_data(ask_data),
        .done(done), .done_data(done_data), .set_valid(set_valid), .set(set), .start(start), .last_tag(last_tag)
    );

    reg first = 1'b1, was_reset = 1'b1;
    always @(posedge clk) {first, was_reset} <= {1'b0, reset};
    always @* begin
        assume (~first | reset);
        assume (was_reset | ~reset);
    end

    // ---------------------------------------------------------------- of the core; arbiter.ys connects them

    wire        host_take, host_wait, hold, crc_ask, crc_taken, crc_waiting, crc_loading;
    wire [13:0] crc_addr, seq_addr;
    wire        fetch_now, tap_now, parameter_now, lane_now, from_table;
    wire [ 2:1] fetched, tap;
    wire [ 4:1] inlined;
    wire [13:0] w_addr, w_at;
    wire        w_write, t_write;
    wire [63:0] w_wdata, w_data, w_word;
    wire [ 9:0] seq_addr0, seq_addr1, pad_word, addr0, addr1, at0, at1, waddr0, waddr1;
    wire        seq_pad0, seq_pad1, written0, written1;
    wire [63:0] bank0, bank1, word0, word1, wdata0, wdata1;
    wire [ 7:0] write0, write1;
    wire        out_valid, result_valid, result_bank, second, stop;
    wire [14:0] first_waiting;
    wire [ 2:0] result_at;
    wire [ 3:0] since;
    wire [ 9:0] result_word;
    wire [ 7:0] out, result;

    wire counts      = ~second | first_waiting[14];
    wire advances    = fetch_now | tap_now | parameter_now | lane_now;
    wire host_writes = ask & ask_write;

    // ---------------------------------------------------------------- one user of the weight memory in a clk

    reg         was_advances, was_host, was_crc, was_host_writes, was_ask_write;
    reg  [ 1:0] was_space;
    reg  [13:0] was_seq_addr, was_crc_addr, was_ask_addr;
    reg         two_advances, two_fetch, two_tap, two_inlined, was_fetch, was_tap, was_inlined, two_crc, two_host;
    initial {was_advances, was_host, was_crc, was_fetch, was_tap, was_inlined} = 6'd0;
    initial {two_advances, two_fetch, two_tap, two_inlined, two_crc, two_host} = 6'd0;

    reg  [13:0] asked;     // whose word comes now, by whoever asked
    reg  [63:0] w_then;    // the word as it was when it was read

    always @(posedge clk) begin
        {was_advances, was_host, was_crc} <= {advances, host_take, crc_taken};
        {was_fetch, was_tap, was_inlined} <= {fetch_now, tap_now, ~from_table & (parameter_now | lane_now)};
        {was_ask_write, was_space}        <= {ask_write, ask_space};
        {was_seq_addr, was_crc_addr, was_ask_addr} <= {seq_addr, crc_addr, ask_addr};
        two_advances <= was_advances;
        {two_fetch, two_tap, two_inlined, two_crc, two_host} <= {was_fetch, was_tap, was_inlined, was_crc, was_host};
        asked  <= was_advances ? was_seq_addr : was_crc ? was_crc_addr : was_ask_addr;
        w_then <= w_word;
    end

    always @* if (~first) begin
        assert (advances + host_take + crc_taken <= 2'd1);
        assert (hold == (host_take | crc_taken));
        assert (~crc_taken | crc_ask);
        assert (~was_advances | (~w_write & w_addr == was_seq_addr));
        assert (~was_crc | (~w_write & w_addr == was_crc_addr));
        assert (~was_host | w_addr == was_ask_addr);
        assert (w_write == (was_host & was_ask_write));
        assert (~w_write | was_space == WEIGHTS);
        // What comes two clk later is of the address that was asked for.
        assert (~(two_advances | two_crc) | asked != w_at | w_data == w_then);
        assert (~(done & ask & ~ask_write & ask_space == WEIGHTS & ask_addr == w_at) | done_data == w_then);
        assert (~fetched[2] | two_fetch);
        assert (~tap[2] | two_tap);
        assert (~inlined[2] | two_inlined);
        assert (~crc_loading | two_crc);
    end

    // ---------------------------------------------------------------- the banks: reading

    reg        known0, known1;
    reg  [9:0] was_addr0, was_addr1;
    reg  [63:0] then0, then1;

    // `known`: the word looked at is read in this clk and is not being written.
    wire [9:0] reads0 = was_tap & seq_pad0 ? pad_word : was_addr0;
    wire [9:0] reads1 = was_tap & seq_pad1 ? pad_word : was_addr1;

    always @(posedge clk) begin
        was_addr0 <= tap_now ? seq_addr0 : ask_addr[9:0];
        was_addr1 <= tap_now ? seq_addr1 : ask_addr[9:0];
        known0    <= reads0 == at0 & ~written0;
        known1    <= reads1 == at1 & ~written1;
        then0     <= word0;
        then1     <= word1;
    end

    wire host_reads = done & ask & ~ask_write & ask_space == ACTIVATIONS;

    always @* if (~first) begin
        assert (~(two_tap & known0) | bank0 == then0);
        assert (~(two_tap & known1) | bank1 == then1);
        assert (~(host_reads & ~ask_addr[10] & known0) | done_data == then0);
        assert (~(host_reads & ask_addr[10] & known1) | done_data == then1);
    end

    // ---------------------------------------------------------------- the banks: writing

    reg        was_result, was_bank, was_counts, was_done;
    reg  [2:0] was_result_at;
    reg  [9:0] was_result_word;
    reg  [7:0] was_byte, was_out;
    initial {was_result, was_counts, was_done} = 3'd0;

    always @(posedge clk) begin
        {was_result, was_bank, was_done} <= {result_valid, result_bank, done};
        was_counts      <= out_valid & counts & ~stop;
        was_result_at   <= result_at;
        was_result_word <= result_word;
        was_byte        <= result;
        was_out         <= out;
    end

    wire [15:0] result_lane = 16'd1 << {was_bank, was_result_at};
    wire [15:0] host_lanes  = ask_addr[10] ? 16'hff00 : 16'h00ff;
    wire        host_done   = done & host_writes;

    always @* if (~first) begin
        // Each result is written in the second clk, its byte and no other.
        assert (result_valid == was_counts);
        assert (~result_valid | result == was_out);
        assert (~was_result | {write1, write0} == result_lane);
        assert (~was_result | (waddr0 == was_result_word & waddr1 == was_result_word));
        assert (~was_result | wdata0 == {8{was_byte}} & wdata1 == {8{was_byte}});
        // A word of the host is written in the clk it is done, and in no other.
        assert (was_result | {write1, write0} == (host_done & ask_space == ACTIVATIONS ? host_lanes : 16'd0));
        assert (~(host_done & ask_space == ACTIVATIONS) | ~was_result);
        assert (~(host_done & ask_space == ACTIVATIONS) | (waddr0 == ask_addr[9:0] & waddr1 == ask_addr[9:0]));
        assert (~(host_done & ask_space == ACTIVATIONS) | (wdata0 == ask_data & wdata1 == ask_data));
    end

    // ---------------------------------------------------------------- every word of the host's, once

    reg  [2:0] stood = 3'd0;
    reg  [1:0] w_writes = 2'd0, t_writes = 2'd0; // of the word that is asked for
    reg  [2:0] crc_stood = 3'd0;

    always @(posedge clk) begin
        stood     <= ask & ~done ? stood + 3'd1 : 3'd0;
        w_writes  <= ask & ~done ? w_writes + w_write : 2'd0;
        t_writes  <= ask & ~done ? t_writes + t_write : 2'd0;
        crc_stood <= crc_ask & ~crc_taken ? crc_stood + 3'd1 : 3'd0;
    end

    always @* if (~first) begin
        assert (~ask | done | stood < DONE_MAX - 1);
        assert (~(done & was_done));
        assert (~host_done | w_writes == (ask_space == WEIGHTS));
        assert (~host_done | t_writes == (ask_space == TABLE));
        assert (~(w_write | t_write) | (host_writes & ~done));
        assert (~w_write | (w_addr == ask_addr & w_wdata == ask_data));
        assert (crc_stood < 3'd3);
    end

    // ---------------------------------------------------------------- what induction has to know

    wire host_clk = ask & (~ask_write | ask_space == WEIGHTS);
    wire act      = host_writes & ask_space == ACTIVATIONS;

    always @* if (~first) begin
        assert (~host_take | since == 4'd1);
        assert (~host_wait | since == 4'd2);
        assert (~done | (since >= 4'd1 & since <= 4'd3));
        assert (~ask | (stood == 3'd0 ? since >= 4'd7 : since == {1'b0, stood}));
        assert (~host_clk | {host_take, host_wait, done} == {stood == 3'd1, stood == 3'd2, stood == 3'd3});
        assert (~host_clk | w_writes == (ask_write & stood == 3'd3));
        assert (host_clk | ~ask | ~(host_take | host_wait));
        assert (host_clk | w_writes == 2'd0);
        assert (~act | done == (stood == 3'd2 | (stood == 3'd1 & ~was_result)));
        assert (~(host_writes & ask_space == TABLE) | done == (stood == 3'd1));
        assert (t_writes == (host_writes & ask_space == TABLE & stood == 3'd1));
        assert (was_host == host_wait);
        assert (crc_ask + crc_waiting + crc_loading <= 2'd1);
        assert (crc_waiting == was_crc);
    end

    // ---------------------------------------------------------------- that all of it can happen, in one run

    reg [7:0] happened = 8'd0;
    always @(posedge clk) happened <= happened | {
        two_tap & was_host & crc_taken,                    // each has had a clk
        two_tap & asked == w_at & known0,
        crc_loading & asked == w_at,
        inlined[2] & asked == w_at,
        act & stood == 3'd1 & ~done,                       // a result goes before the host's word
        host_reads & known1 & ask_addr[10] & then1 == 64'h0123456789abcdef,
        host_done & w_writes == 2'd1,
        host_done & t_writes == 2'd1};

    (* keep *) wire reaches_all = happened == 8'hff;
endmodule

`default_nettype wire
