// bw_over_axi before any bw_core that is done with a word in time: what arbiter.sv assumes of a host, and the
// rules of the bus.
`default_nettype none

// Any core of which arbiter.sv is true.
module bw_core #(
    parameter [31:0] BUILD = 32'd0
) (
    input  wire        clk,
    input  wire        reset,
    input  wire        ask,
    input  wire        ask_write,
    input  wire [ 1:0] ask_space,
    input  wire [13:0] ask_addr,
    input  wire [63:0] ask_data,
    output wire        done,
    output wire [63:0] done_data,
    input  wire        set_valid,
    input  wire [ 2:0] set,
    input  wire        start,
    input  wire [ 7:0] last_tag,
    output wire        busy,
    output wire        irq
);
    localparam DONE_MAX = 4;
    reg [2:0] waits = 3'd0;
    reg       was_done = 1'b0;
    always @(posedge clk) begin
        was_done <= done;
        waits    <= ask & ~done & ~reset ? waits + 3'd1 : 3'd0;
    end
    always @* begin
        assume (~done | (ask & waits != 3'd0));
        assume (waits < DONE_MAX | done);
        assume (~(done & was_done));
    end
endmodule

module axi (
    input wire        clk,
    input wire        resetn,
    input wire [19:0] awaddr,
    input wire        awvalid,
    input wire [63:0] wdata,
    input wire [ 7:0] wstrb,
    input wire        wvalid,
    input wire        bready,
    input wire [19:0] araddr,
    input wire        arvalid,
    input wire        rready
);
    localparam GAP = 7;

    wire        awready, wready, bvalid, arready, rvalid;
    wire [63:0] rdata;

    bw_over_axi dut (
        .s_axi_aclk(clk), .s_axi_aresetn(resetn),
        .s_axi_awaddr(awaddr), .s_axi_awvalid(awvalid), .s_axi_awready(awready),
        .s_axi_wdata(wdata), .s_axi_wstrb(wstrb), .s_axi_wvalid(wvalid), .s_axi_wready(wready),
        .s_axi_bvalid(bvalid), .s_axi_bready(bready),
        .s_axi_araddr(araddr), .s_axi_arvalid(arvalid), .s_axi_arready(arready),
        .s_axi_rdata(rdata), .s_axi_rvalid(rvalid), .s_axi_rready(rready)
    );

    // ---------------------------------------------------------------- of the dut; axi.ys connects them

    wire        ask, ask_write, ask_run, done, set_valid, start, busy, reset;
    wire [ 1:0] ask_space;
    wire [13:0] ask_addr;
    wire [63:0] ask_data;
    wire [ 2:0] apart, waits;

    reg         first = 1'b1, was_ask = 1'b0, was_done = 1'b0, was_reset = 1'b1, was_write, was_run, was_busy;
    reg         was_bvalid = 1'b0, was_bready, was_rvalid = 1'b0, was_rready, was_set = 1'b0;
    reg  [ 3:0] since = 4'd15;    // clk since a word was asked for
    reg  [ 1:0] was_space;
    reg  [13:0] was_addr;
    reg  [63:0] was_data, was_rdata;
    reg         writes = 1'b0, reads = 1'b0;  // one was taken and is not answered

    always @(posedge clk) begin
        {first, was_reset}   <= {1'b0, reset};
        {was_ask, was_done}  <= {ask, done};
        {was_write, was_run} <= {ask_write, ask_run};
        {was_space, was_addr, was_data} <= {ask_space, ask_addr, ask_data};
        {was_bvalid, was_bready, was_rvalid, was_rready, was_rdata} <= {bvalid, bready, rvalid, rready, rdata};
        {was_busy, was_set} <= {busy, set_valid};
        since  <= ask & ~was_ask ? 4'd1 : since == 4'd15 ? 4'd15 : since + 4'd1;
        writes <= ~reset & (awready | (writes & ~(bvalid & bready)));
        reads  <= ~reset & (arready | (reads & ~(rvalid & rready)));
    end

    // One reset, at the beginning.
    always @* begin
        assume (~first | reset);
        assume (was_reset | ~reset);
    end

    // ---------------------------------------------------------------- what bw_core wants of its host

    always @* if (~first) begin
        assert (~ask | was_ask | since >= GAP);
        assert (~ask | ~was_ask | ~was_done);
        assert (~(ask & ask_write) | ask_space != 2'd0);
        assert (ask | ~was_ask | was_done | ~was_write | reset | was_reset);
        assert (since >= GAP | {ask_write, ask_space} == {was_write, was_space});
        assert (~ask | ~was_ask | {ask_addr, ask_data} == {was_addr, was_data});
        // A register is written by one clk, of what stands then.
        assert (~set_valid | ~was_set);
        assert (~set_valid | (ask_space == 2'd0 & ~ask));
        // A job is begun by a word that arrived, where that was asked for.
        assert (~start | (was_ask & was_done & was_write & was_run));
    end

    // ---------------------------------------------------------------- the bus

    always @* if (~first) begin
        assert (~awready | (awvalid & wvalid));
        assert (awready == wready);
        assert (~arready | arvalid);
        assert (~(awready & arready));
        // One at a time, and an answer for each: it comes once, stands until it is taken, and does not change.
        assert (~(writes & reads));
        assert (~(awready | arready) | ~(writes | reads));
        assert (~bvalid | writes);
        assert (~rvalid | reads);
        assert (~(was_bvalid & ~was_bready & ~was_reset) | bvalid);
        assert (~(was_rvalid & ~was_rready & ~was_reset) | (rvalid & rdata == was_rdata));
        // None waits for ever: an answer is there, or a word is asked for, which is done in time.
        assert (~(writes | reads) | was_reset | bvalid | rvalid | ask);
    end

    // What induction has to know of the counters.
    always @* if (~first) begin
        assert (since >= GAP | since + apart >= GAP);
        assert (~(ask & ~was_ask & ~was_reset) | apart == 3'd7);
        assert (~ask | (ask_write ? writes : reads) | was_reset);
    end

    // ---------------------------------------------------------------- that it is of something

    reg [2:0] seen = 3'd0; // a word read, a word written, a job begun
    always @(posedge clk) begin
        if (rvalid & rready & rdata != 64'd0) seen[0] <= 1'b1;
        if (bvalid & bready & was_done) seen[1] <= 1'b1;
        if (start) seen[2] <= 1'b1;
    end
    (* keep *) wire reaches_all = seen == 3'd7;
endmodule

`default_nettype wire
