// int32 -> int8 as a CPU does it that converts the sum to float, multiplies it by a float scale, rounds to
// the nearest integer (ties to even), adds the zero point and clamps: bit for bit, without a float unit.
//
//   f32(sum)          = mant * 2^(exp-23)    mant: 24 bits, leading bit set, ties to even
//   f32(that * scale) = mant * 2^(exp-23)    of the product of two 24-bit mantissas, ties to even
//   round, + zero point, clamp
//
// Source: IEEE 754-2019, 4.3.1 and 5.9, as the QLinear operators of onnxruntime use it. One result every
// four clk, LATENCY clk after its sum. The scale is an f32 without its sign: positive and normal (exponent
// field 1 to 254); the compiler refuses others.
//
// A number behind a name is the stage whose register it is.
`default_nettype none

module bw_requant (
    input  wire        clk,
    input  wire        reset,
    input  wire        in_valid,   // four clk after the one before, or later
    input  wire [31:0] in_sum,
    input  wire [31:0] bias,       // stands with the sum and one clk longer, like the scale
    input  wire [30:0] scale,
    input  wire [ 7:0] zero_point,
    input  wire [ 7:0] lowest,
    input  wire [ 7:0] highest,
    input  wire [ 3:0] in_tag,
    output wire        out_valid,
    output reg  [ 7:0] out,
    output wire [ 3:0] out_tag
);
    localparam LATENCY = 18;

    reg [LATENCY-1:0] valid; // valid[i]: stage i+1 holds a value
    reg [        3:0] tag1, tag5, tag9, tag13, tag17; // each for four clk, until the next result
    initial valid = {LATENCY{1'b0}};

    always @(posedge clk) begin
        valid <= reset ? {LATENCY{1'b0}} : {valid[LATENCY-2:0], in_valid};
        if (in_valid)  tag1  <= in_tag;
        if (valid[3])  tag5  <= tag1;
        if (valid[7])  tag9  <= tag5;
        if (valid[11]) tag13 <= tag9;
        if (valid[15]) tag17 <= tag13;
    end

    assign out_valid = valid[LATENCY-1];
    assign out_tag   = tag17;

    // ---------------------------------------------------------------- 1, 2: the whole sum, its size

    reg [31:0] sum1, size2;
    reg [30:0] scale4;                  // waits for the sum
    reg        negative2;

    always @(posedge clk) begin
        sum1      <= in_sum + bias;
        size2     <= (sum1 + {32{sum1[31]}}) ^ {32{sum1[31]}}; // all bits flipped of one less: negated
        negative2 <= sum1[31];
        if (valid[0]) scale4 <= scale;
    end

    // ---------------------------------------------------------------- 3, 4: the leading bit to the top

    wire        none2_3  = size2[31:24] == 8'd0;
    wire        none2_2  = size2[23:16] == 8'd0;
    wire        none2_1  = size2[15:8] == 8'd0;
    wire        none2_16 = none2_3 & none2_2;
    wire        none2_8  = none2_16 ? none2_1 : none2_3; // of what is left

    reg  [31:0] size3, size4;
    reg  [ 1:0] left3;
    reg  [ 4:0] left4;
    reg         negative3, negative4;

    wire        none3_4 = size3[31:28] == 4'd0;
    wire [31:0] by3_4   = none3_4 ? {size3[27:0], 4'd0} : size3;
    wire        none3_2 = by3_4[31:30] == 2'd0;
    wire [31:0] by3_2   = none3_2 ? {by3_4[29:0], 2'd0} : by3_4;

    always @(posedge clk) begin
        case ({none2_16, none2_8})
            2'b00: size3 <= size2;
            2'b01: size3 <= {size2[23:0], 8'd0};
            2'b10: size3 <= {size2[15:0], 16'd0};
            2'b11: size3 <= {size2[7:0], 24'd0};
        endcase
        left3     <= {none2_16, none2_8};
        negative3 <= negative2;
        size4     <= by3_2[31] ? by3_2 : {by3_2[30:0], 1'b0};
        left4     <= {left3, none3_4, none3_2, ~by3_2[31]};
        negative4 <= negative3;
    end

    // ---------------------------------------------------------------- 5: f32(sum)

    // The leading bit is set, but after a carry, which leaves nothing else: so it tells of a carry, and is not kept.
    wire        up4   = size4[7] & (size4[8] | (size4[6:0] != 7'd0));
    wire [23:0] mant4 = size4[31:8] + {23'd0, up4};

    reg         [22:0] mant5;
    reg signed  [ 9:0] exp5;
    reg                leading5, negative5, zero5; // a carry is not yet in the exponent

    always @(posedge clk) begin
        {leading5, mant5} <= mant4;
        exp5      <= {2'd0, scale4[30:23]} - 10'd96 - {5'd0, left4}; // 31 - left - 127
        negative5 <= negative4;
        zero5     <= ~size4[31];
    end

    // ---------------------------------------------------------------- 6 to 12: the product, in four parts

    // Stage 6 stands for four clk, in each of which six bits of the scale are multiplied, from the low ones.
    // What falls out of the sum on the right can only tell that the product is more than what is kept.
    reg         [23:0] mant6, scale6;
    reg         [25:0] triple6;
    reg signed  [ 9:0] exp6;
    reg                negative6, zero6;

    function [25:0] times(input [1:0] digit, input [23:0] one, input [25:0] three);
        case (digit)
            2'd0:    times = 26'd0;
            2'd1:    times = {2'd0, one};
            2'd2:    times = {1'b0, one, 1'b0};
            default: times = three;
        endcase
    endfunction

    wire [27:0] by_two6 = {2'd0, times(scale6[1:0], mant6, triple6)} + {times(scale6[3:2], mant6, triple6), 2'd0};
    reg  [27:0] two7;
    reg  [29:0] part8, product9;
    reg  [25:0] third7;
    reg         rest9;

    always @(posedge clk) begin
        if (valid[4]) begin
            mant6     <= {1'b1, mant5};
            triple6   <= {3'd1, mant5} + {2'd1, mant5, 1'b0};
            exp6      <= exp5 + {9'd0, ~leading5};
            negative6 <= negative5;
            zero6     <= zero5;
        end
        scale6   <= valid[4] ? {1'b1, scale4[22:0]} : {6'd0, scale6[23:6]};
        two7     <= by_two6;
        third7   <= times(scale6[5:4], mant6, triple6);
        part8    <= {2'd0, two7} + {third7, 4'd0};
        product9 <= part8 + (valid[7] ? 30'd0 : {6'd0, product9[29:6]});
        rest9    <= ~valid[7] & (rest9 | product9[5:0] != 6'd0);
    end

    // The first part is in stage 9 when valid[8] is set, the last when valid[11] is: then stage 9 holds the
    // upper 30 of 48 bits.
    reg  signed [9:0] right10; // 8 - exp
    reg               negative10, zero10;

    always @(posedge clk) if (valid[8]) {right10, negative10, zero10} <= {10'd8 - exp6, negative6, zero6};

    // ---------------------------------------------------------------- 13, 14: f32(f32(sum) * scale)

    wire        top12  = product9[29];
    wire [23:0] kept12 = top12 ? product9[29:6] : product9[28:5];
    wire        half12 = top12 ? product9[5] : product9[4];
    wire        rest12 = rest9 | (product9[3:0] != 4'd0) | (top12 & product9[4]);

    reg         [23:0] kept13, rounded14;
    reg                top13, up13;
    reg signed  [ 9:0] right14;
    reg                negative14, zero14;

    always @(posedge clk) begin
        kept13     <= kept12;
        top13      <= top12;
        up13       <= half12 & (kept12[0] | rest12);
        rounded14  <= kept13 + {23'd0, up13};
        right14    <= right10 - {9'd0, top13};
        negative14 <= negative10;
        zero14     <= zero10;
    end

    wire        [24:0] mant14 = {~rounded14[23], rounded14}; // as above: a carry, or the leading bit

    // ---------------------------------------------------------------- 15 to 18: to the nearest integer

    // Up to 512 the integer has ten bits, behind which one is the half and the rest says more or not.
    wire        [10:0] by14_8  = right14[3] ? {8'd0, mant14[24:22]} : mant14[24:14];
    wire        [10:0] by14_4  = right14[2] ? {4'd0, by14_8[10:4]} : by14_8;
    wire        [10:0] by14_2  = right14[1] ? {2'd0, by14_4[10:2]} : by14_4;
    wire        [10:0] by14_1  = right14[0] ? {1'd0, by14_2[10:1]} : by14_2;
    wire               rest14  = (mant14[13:0] != 14'd0) | (right14[3] & (mant14[21:14] != 8'd0))
                               | (right14[2] & (by14_8[3:0] != 4'd0)) | (right14[1] & (by14_4[1:0] != 2'd0))
                               | (right14[0] & by14_2[0]);

    reg         [10:0] fixed15;
    reg                rest15, large15, small15, negative15;

    always @(posedge clk) begin
        fixed15    <= by14_1;
        rest15     <= rest14;
        large15    <= right14 < 10'sd0;
        small15    <= (right14 > 10'sd10) | zero14;
        negative15 <= negative14;
    end

    wire        [ 9:0] whole15  = fixed15[10:1] + {9'd0, fixed15[0] & (fixed15[1] | rest15)};
    wire        [10:0] around15 = small15 ? 11'd0 : large15 ? 11'd512 : {1'b0, whole15};

    // Negated by flipping all bits here, and the one that is missing then carried into the next sum.
    reg         [10:0] flipped16;
    reg                negative16;
    wire        [11:0] value16 = {flipped16, 1'b1} + {{3{zero_point[7]}}, zero_point, negative16};
    reg  signed [10:0] value17;

    always @(posedge clk) begin
        flipped16  <= around15 ^ {11{negative15}};
        negative16 <= negative15;
        value17    <= value16[11:1];
    end

    wire below17 = value17 < $signed({{3{lowest[7]}}, lowest});
    wire above17 = value17 > $signed({{3{highest[7]}}, highest});

    always @(posedge clk) out <= below17 ? lowest : above17 ? highest : value17[7:0];

endmodule

`default_nettype wire
