// Sixteen multipliers and what they add up to.
//
// Sums (kind 0): eight inputs of one output channel, for one column or for two beside each other.
//   weights w0..w7, column 0 and column 1, 8 bytes each -> two sums of eight products -> two accumulators
// Lanes (kind 1): eight channels that have nothing to do with each other, one column: depthwise
//   convolutions and mean pools. Eight accumulators of 21 bits; the compiler refuses what may not fit.
// Greatest (kind 2): as lanes, the greatest value instead of the sum; all weights are 1. An accumulator
//   holds it with all bits flipped, so that the adder compares: value + flipped = value - greatest - 1.
//
// `tap_*` belongs to the words that arrive in the same clk. A sum is handed to the requantiser five clk
// after its last tap, the second column's four clk later; a lane two clk after `lane_valid`.
`default_nettype none

module bw_mac (
    input  wire        clk,
    input  wire        reset,
    input  wire        clear,        // before a layer: no lane remembers anything
    input  wire        sums,         // kind 0
    input  wire        greatest,     // kind 2
    input  wire        pair,         // two columns a tap
    input  wire        tap_valid,
    input  wire        tap_first,
    input  wire        tap_last,
    input  wire [63:0] weights,
    input  wire [63:0] column0,
    input  wire [63:0] column1,
    input  wire        lane_valid,   // hand on this lane's value
    input  wire [ 2:0] lane,
    output reg         out_valid,
    output reg  [31:0] out_sum,
    output reg  [ 3:0] out_tag       // last of its group, place in its group
);
    // ---------------------------------------------------------------- products, two clk

    wire signed [15:0] p0 [0:7];
    wire signed [15:0] p1 [0:7];

    genvar i;
    generate
        for (i = 0; i < 8; i = i + 1) begin : multiplier
            bw_mul2 mul (
                .clk(clk),
                .w(weights[8*i +: 8]),
                .a0(column0[8*i +: 8]),
                .a1(column1[8*i +: 8]),
                .p0(p0[i]),
                .p1(p1[i])
            );
        end
    endgenerate

    reg [4:1] tap, first, last; // [n]: n clk after the words
    initial begin
        tap = 4'd0;
        last = 4'd0;
    end

    always @(posedge clk) begin
        tap   <= {tap[3:1], tap_valid};
        first <= {first[3:1], tap_first};
        last  <= {last[3:1], tap_valid & tap_last};
        if (reset) begin
            tap  <= 4'd0;
            last <= 4'd0;
        end
    end

    // ---------------------------------------------------------------- sums

    reg signed [17:0] low0, high0, low1, high1;
    reg signed [18:0] eight0, eight1;
    reg signed [31:0] sum0, sum1;
    wire signed [31:0] whole0 = sum0 + eight0;
    wire signed [31:0] whole1 = sum1 + eight1;

    always @(posedge clk) begin
        low0   <= (p0[0] + p0[1]) + (p0[2] + p0[3]);
        high0  <= (p0[4] + p0[5]) + (p0[6] + p0[7]);
        low1   <= (p1[0] + p1[1]) + (p1[2] + p1[3]);
        high1  <= (p1[4] + p1[5]) + (p1[6] + p1[7]);
        eight0 <= low0 + high0;
        eight1 <= low1 + high1;
        // The last tap's sum goes straight on, and what is kept is empty for the next group.
        if (tap[4] | clear) begin
            sum0 <= (last[4] | clear) ? 32'sd0 : whole0;
            sum1 <= (last[4] | clear) ? 32'sd0 : whole1;
        end
    end

    // ---------------------------------------------------------------- lanes

    wire        empty = clear | (tap_valid & tap_first); // two clk before the first product
    wire [20:0] lane_sum [0:7];

    generate
        for (i = 0; i < 8; i = i + 1) begin : by_lane
            reg  [20:0] total;
            wire [20:0] product = {{5{p0[i][15]}}, p0[i]};
            // A bit between the seventh and the eighth shows the carry, inverted, and passes it on.
            wire [21:0] sum     = {total[20:8], 1'b0, total[7:0]} + {product[20:8], 1'b1, product[7:0]};
            wire        greater = total[7] ^ product[7] ^ sum[8]; // of bytes: their sum is not negative
            wire        takes   = tap[2] & ~sums & (~greatest | first[2] | greater);

            always @(posedge clk)
                if (empty | takes)
                    total <= empty ? 21'd0 : greatest ? ~product : {sum[21:9], sum[7:0]};

            assign lane_sum[i] = total;
        end
    endgenerate

    reg  [20:0] lane_total;
    reg  [ 2:0] lane_is;
    reg         lane_out;
    initial     lane_out = 1'b0;

    always @(posedge clk) begin
        lane_total <= lane_sum[lane];
        lane_is    <= lane;
        lane_out   <= lane_valid & ~reset;
    end

    wire [20:0] lane_value = greatest ? {{13{~lane_total[7]}}, ~lane_total[7:0]} : lane_total;

    // ---------------------------------------------------------------- to the requantiser

    wire       done = last[4] & sums;
    reg [ 3:0] after;   // a pair's first sum, so many clk after it
    wire       second = after[3];
    reg [31:0] later1;
    initial {after, out_valid} = 5'd0;

    always @(posedge clk) begin
        after <= {after[2:0], done & pair};
        if (done) later1 <= whole1;

        out_valid <= done | second | lane_out;
        out_sum   <= lane_out ? {{11{lane_value[20]}}, lane_value} : second ? later1 : whole0;
        out_tag   <= lane_out ? {lane_is == 3'd7, lane_is} : {second | ~pair, 2'd0, second};
        if (reset) {after, out_valid} <= 5'd0;
    end

endmodule

`default_nettype wire
