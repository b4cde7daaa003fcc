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
    localparam LATENCY = 15;

    reg [  LATENCY-1:0] valid; // valid[i]: stage i+1 holds a value
    reg [4*LATENCY-1:0] tags;
    initial valid = {LATENCY{1'b0}};

    always @(posedge clk) begin
        valid <= reset ? {LATENCY{1'b0}} : {valid[LATENCY-2:0], in_valid};
        tags  <= {tags[4*LATENCY-5:0], in_tag};
    end

    assign out_valid = valid[LATENCY-1];
    assign out_tag   = tags[4*LATENCY-1 -: 4];

    // ---------------------------------------------------------------- 1, 2: the whole sum, its size

    reg [31:0] sum1, size2;
    reg [30:0] scale4;                  // waits for the sum
    reg        negative2;

    always @(posedge clk) begin
        sum1      <= in_sum + bias;
        size2     <= sum1[31] ? -sum1 : sum1;
        negative2 <= sum1[31];
        if (valid[0]) scale4 <= scale;
    end

    // ---------------------------------------------------------------- 3, 4: the leading bit to the top

    wire        none2_16 = size2[31:16] == 16'd0;
    wire [31:0] by2_16   = none2_16 ? {size2[15:0], 16'd0} : size2;
    wire        none2_8  = by2_16[31:24] == 8'd0;

    reg  [31:0] size3, size4;
    reg  [ 1:0] left3;
    reg  [ 4:0] left4;
    reg         negative3, negative4;

    wire        none3_4 = size3[31:28] == 4'd0;
    wire [31:0] by3_4   = none3_4 ? {size3[27:0], 4'd0} : size3;
    wire        none3_2 = by3_4[31:30] == 2'd0;
    wire [31:0] by3_2   = none3_2 ? {by3_4[29:0], 2'd0} : by3_4;

    always @(posedge clk) begin
        size3     <= none2_8 ? {by2_16[23:0], 8'd0} : by2_16;
        left3     <= {none2_16, none2_8};
        negative3 <= negative2;
        size4     <= by3_2[31] ? by3_2 : {by3_2[30:0], 1'b0};
        left4     <= {left3, none3_4, none3_2, ~by3_2[31]};
        negative4 <= negative3;
    end

    // ---------------------------------------------------------------- 5: f32(sum)

    wire        up4   = size4[7] & (size4[8] | (size4[6:0] != 7'd0));
    wire [24:0] mant4 = {1'b0, size4[31:8]} + {24'd0, up4};

    reg         [23:0] mant5;
    reg signed  [ 9:0] exp5;
    reg                carry5, negative5, zero5; // the carry is not yet in the exponent

    always @(posedge clk) begin
        mant5     <= {mant4[24] | mant4[23], mant4[22:0]}; // a carry leaves nothing but the leading bit
        carry5    <= mant4[24];
        exp5      <= {2'd0, scale4[30:23]} - 10'd96 - {5'd0, left4}; // 31 - left - 127
        negative5 <= negative4;
        zero5     <= ~size4[31];
    end

    // ---------------------------------------------------------------- 6 to 10: the product, in four parts

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

    wire [29:0] by_two6 = {4'd0, times(scale6[1:0], mant6, triple6)} + {2'd0, times(scale6[3:2], mant6, triple6), 2'd0};
    reg  [29:0] part7, product8;
    reg         rest8;

    always @(posedge clk) begin
        if (valid[4]) begin
            mant6     <= mant5;
            triple6   <= {2'd0, mant5} + {1'b0, mant5, 1'b0};
            exp6      <= exp5 + {9'd0, carry5};
            negative6 <= negative5;
            zero6     <= zero5;
        end
        scale6   <= valid[4] ? {1'b1, scale4[22:0]} : {6'd0, scale6[23:6]};
        part7    <= by_two6 + {times(scale6[5:4], mant6, triple6), 4'd0};
        product8 <= part7 + (valid[6] ? 30'd0 : {6'd0, product8[29:6]});
        rest8    <= ~valid[6] & (rest8 | product8[5:0] != 6'd0);
    end

    // The first part is in stage 8 when valid[7] is set, the last when valid[10] is: then stage 8 holds the
    // upper 30 of 48 bits.
    reg  signed [9:0] exp10;
    reg               negative10, zero10;

    always @(posedge clk) if (valid[8]) {exp10, negative10, zero10} <= {exp6, negative6, zero6};

    // ---------------------------------------------------------------- 11: f32(f32(sum) * scale)

    wire        top10  = product8[29];
    wire [23:0] kept10 = top10 ? product8[29:6] : product8[28:5];
    wire        half10 = top10 ? product8[5] : product8[4];
    wire        rest10 = rest8 | (product8[3:0] != 4'd0) | (top10 & product8[4]);
    wire [24:0] mant10 = {1'b0, kept10} + {24'd0, half10 & (kept10[0] | rest10)};

    reg         [23:0] mant11;
    reg signed  [ 9:0] exp11;
    reg                carry11, negative11, zero11;

    always @(posedge clk) begin
        mant11     <= {mant10[24] | mant10[23], mant10[22:0]};
        carry11    <= mant10[24];
        exp11      <= exp10 + {9'd0, top10};
        negative11 <= negative10;
        zero11     <= zero10;
    end

    // ---------------------------------------------------------------- 12, 13: to the nearest integer

    // Below 512 the integer has nine bits, behind which one is the half and the rest says more or not.
    wire signed [ 9:0] right11 = 10'sd8 - exp11 - {9'd0, carry11};
    wire        [ 9:0] by11_8  = right11[3] ? {8'd0, mant11[23:22]} : mant11[23:14];
    wire        [ 9:0] by11_4  = right11[2] ? {4'd0, by11_8[9:4]} : by11_8;
    wire        [ 9:0] by11_2  = right11[1] ? {2'd0, by11_4[9:2]} : by11_4;
    wire        [ 9:0] by11_1  = right11[0] ? {1'd0, by11_2[9:1]} : by11_2;
    wire               rest11  = (mant11[13:0] != 14'd0) | (right11[3] & (mant11[21:14] != 8'd0))
                               | (right11[2] & (by11_8[3:0] != 4'd0)) | (right11[1] & (by11_4[1:0] != 2'd0))
                               | (right11[0] & by11_2[0]);

    reg         [ 9:0] fixed12;
    reg                rest12, large12, small12, negative12;

    always @(posedge clk) begin
        fixed12    <= by11_1;
        rest12     <= rest11;
        large12    <= right11 < 10'sd0;
        small12    <= (right11 > 10'sd9) | zero11;
        negative12 <= negative11;
    end

    wire        [ 9:0] whole12  = {1'b0, fixed12[9:1]} + {9'd0, fixed12[0] & (fixed12[1] | rest12)};
    wire signed [10:0] around12 = small12 ? 11'sd0 : large12 ? 11'sd512 : {1'b0, whole12};

    reg signed  [10:0] value13;

    always @(posedge clk)
        value13 <= (negative12 ? -around12 : around12) + {{3{zero_point[7]}}, zero_point};

    wire below13 = value13 < $signed({{3{lowest[7]}}, lowest});
    wire above13 = value13 > $signed({{3{highest[7]}}, highest});

    always @(posedge clk) out <= below13 ? lowest : above13 ? highest : value13[7:0];

endmodule

`default_nettype wire
