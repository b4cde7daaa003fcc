// The engine on a bus inside a chip: an AXI4-Lite slave with words of 64 bits, one transfer at a time.
//
//   byte address   bit 19    18:17   16:3   2:0
//                  run       space   word   0
//
// A word is written when its last byte is: a host of 32 bits writes the lower half, then the upper one. Where
// bit 19 is set, that begins a job too; while one runs it does nothing. The table reads as zero.
//
// The answer is always OKAY: a CPU that hears of an error here has no way to go on.
`default_nettype none

module bw_over_axi #(
    parameter [31:0] BUILD = 32'd0
) (
    input  wire        s_axi_aclk,
    input  wire        s_axi_aresetn,
    input  wire [19:0] s_axi_awaddr,
    input  wire [ 2:0] s_axi_awprot,
    input  wire        s_axi_awvalid,
    output wire        s_axi_awready,
    input  wire [63:0] s_axi_wdata,
    input  wire [ 7:0] s_axi_wstrb,
    input  wire        s_axi_wvalid,
    output wire        s_axi_wready,
    output wire [ 1:0] s_axi_bresp,
    output reg         s_axi_bvalid,
    input  wire        s_axi_bready,
    input  wire [19:0] s_axi_araddr,
    input  wire [ 2:0] s_axi_arprot,
    input  wire        s_axi_arvalid,
    output wire        s_axi_arready,
    output reg  [63:0] s_axi_rdata,
    output wire [ 1:0] s_axi_rresp,
    output reg         s_axi_rvalid,
    input  wire        s_axi_rready,
    output wire        irq
);
    `include "bw_registers.vh"

    localparam [2:0] APART = 3'd7; // clk from one word to the next, which bw_core wants

    wire clk = s_axi_aclk;
    reg  reset = 1'b1;
    always @(posedge clk) reset <= ~s_axi_aresetn;

    reg         ask, ask_write, ask_run, set_valid, start, write_is_next;
    reg  [ 1:0] ask_space;
    reg  [13:0] ask_addr;
    reg  [63:0] ask_data;
    reg  [ 7:0] last_tag;
    reg  [ 2:0] apart;     // clk that are left of those
    wire        done, busy;
    wire [63:0] done_data;

    initial begin
        {ask, set_valid, start, write_is_next, s_axi_bvalid, s_axi_rvalid} = 6'd0;
        last_tag = 8'd0;
        apart = 3'd0;
    end

    // ---------------------------------------------------------------- what is taken: in turn, if both wait

    wire free      = ~reset & ~ask & apart == 3'd0 & ~s_axi_bvalid & ~s_axi_rvalid;
    wire can_write = s_axi_awvalid & s_axi_wvalid;
    wire write     = free & can_write & (write_is_next | ~s_axi_arvalid);
    wire read      = free & s_axi_arvalid & ~(write_is_next & can_write);

    assign s_axi_awready = write;
    assign s_axi_wready  = write;
    assign s_axi_arready = read;
    assign s_axi_bresp   = 2'd0;
    assign s_axi_rresp   = 2'd0;

    wire        run       = s_axi_awaddr[19];
    wire [ 1:0] to        = s_axi_awaddr[18:17];
    wire [ 1:0] from      = s_axi_araddr[18:17];
    wire        whole     = write & s_axi_wstrb[7];
    wire        registers = to == SPACE_REGISTERS;
    wire        asks      = whole & ~registers & ~(run & busy);

    integer i;

    always @(posedge clk) begin
        set_valid <= whole & registers & ~run;
        start     <= ask & done & ask_run;
        if (start) last_tag <= last_tag + 8'd1;
        if (apart != 3'd0) apart <= apart - 3'd1;

        if (write | read) begin
            apart         <= APART;
            ask_write     <= write;
            ask_run       <= write & run;
            ask_space     <= write ? to : from;
            ask_addr      <= write ? s_axi_awaddr[16:3] : s_axi_araddr[16:3];
            write_is_next <= read;
            ask           <= write ? asks : from != SPACE_TABLE;
            s_axi_bvalid  <= write & ~asks;
            s_axi_rvalid  <= read & from == SPACE_TABLE;
            s_axi_rdata   <= 64'd0;
        end
        if (write) for (i = 0; i < 8; i = i + 1) if (s_axi_wstrb[i]) ask_data[8*i +: 8] <= s_axi_wdata[8*i +: 8];

        if (ask & done) begin
            ask          <= 1'b0;
            s_axi_bvalid <= ask_write;
            s_axi_rvalid <= ~ask_write;
            s_axi_rdata  <= done_data;
        end
        if (s_axi_bvalid & s_axi_bready) s_axi_bvalid <= 1'b0;
        if (s_axi_rvalid & s_axi_rready) s_axi_rvalid <= 1'b0;

        if (reset) begin
            {ask, set_valid, start, s_axi_bvalid, s_axi_rvalid} <= 5'd0;
            apart <= APART;
        end
    end

    bw_core #(.BUILD(BUILD)) core (
        .clk(clk), .reset(reset),
        /* what was asked before a reset is given up */
        .ask(ask & ~reset), .ask_write(ask_write), .ask_space(ask_space), .ask_addr(ask_addr), .ask_data(ask_data),
        .done(done), .done_data(done_data), .set_valid(set_valid), .set(ask_addr[2:0]),
        .start(start), .last_tag(last_tag), .busy(busy), .irq(irq)
    );
endmodule

`default_nettype wire
