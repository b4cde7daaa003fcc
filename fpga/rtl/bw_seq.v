// The sequencer: reads layer after layer from the weight memory and walks each, a tap every clk.
//
//   for each channel (sums: one output channel; lanes: eight of them)
//     for each output row, for each output column or pair of columns         a "group" of results
//       for each kernel row, kernel column, word of eight input channels     a "tap":
//         a word of weights, a word of activations for one or two columns
//
// A word is eight bytes. Pixel (y, x), channels 8c to 8c+7, is in bank x[0] at word
//   from + y * row_stride + (x >> 1) * column_stride + c
// so that the two columns of a pair are never in one bank. The weights of a channel follow each other in
// the order of its taps; behind them come its bias and scale in one word, or eight of these for lanes,
// unless the layer takes them from the table. The fields of a layer are in registers.toml.
//
// Time: the requantiser takes four clk a result, so a group ends four clk after the one before it, a pair
// eight, and eight or nine where the channel changes, as bias and scale still have to stand. Lanes take 34
// clk for their eight results. Bias and scale of a channel take one clk if they are not in the table.
//
// So from one group to the next there are four clk or more: where the next begins is made ready meanwhile,
// and only what is inside a group has to be known at once.
`default_nettype none

module bw_seq (
    input  wire         clk,
    input  wire         reset,
    input  wire         start,           // one clk: begin with the layer at `job_from`
    input  wire [ 13:0] job_from,
    input  wire [ 23:0] limit,           // clk until the watchdog stops the job
    input  wire         hold,            // the host takes the memories in this clk
    output wire         busy,
    output reg          failed,          // the last job was stopped, or a layer made no sense
    output wire         stop,            // one clk: forget what is under way
    output reg  [ 23:0] cycles,
    output reg  [ 23:0] taps,            // of weights that were multiplied, for each column once

    // what is asked of the memories in this clk
    output wire [ 13:0] w_addr,
    output wire [  9:0] a_addr0,
    output wire [  9:0] a_addr1,
    output wire         a_pad0,          // the word of padding instead: one clk later
    output wire         a_pad1,
    output wire [  7:0] t_addr,
    output wire         t_read,

    // what comes of it, two clk later
    input  wire [ 63:0] w_data,
    output wire         tap_valid,
    output wire         tap_first,
    output wire         tap_last,
    output wire         tap_swap,        // column 0 is in bank 1: one clk before
    output wire         parameter_valid, // a word of bias and scale: for all results of the channel ...
    output wire         parameter_lane,  // ... or for one lane
    output wire [  2:0] lane,

    // a group, in the clk that asks for its last tap
    output wire         group,
    output wire [ 14:0] group_tag,       // its second column counts, bank, byte, word
    input  wire         idle,            // no result is under way

    output wire         clear,           // a layer begins
    output wire         sums,
    output wire         greatest,
    output wire         pair,
    output wire         from_table,
    output wire [  7:0] zero_point,
    output wire [  7:0] lowest,
    output wire [  7:0] highest,
    output wire [  9:0] pad_word
);
    // ---------------------------------------------------------------- the layer, all counts less one

    // Where weights, table, input and output begin and how many channels there are goes straight to the
    // counters below.

    reg [63:0] layer0, layer1, layer2, layer3, layer4;

    wire [ 1:0] kind           = layer0[1:0];
    assign      pair           = layer0[2];
    assign      from_table     = layer0[3];
    wire        by_two         = layer0[4];      // output columns are two input columns apart
    wire        odd            = layer0[5];      // the last pair of a row has one column
    wire        final_layer    = layer0[6];
    wire [ 7:0] rows           = layer0[15:8];
    wire [ 7:0] columns        = layer0[23:16];  // or pairs of columns
    wire [ 7:0] kernel_rows    = layer0[31:24];
    wire [ 7:0] kernel_columns = layer0[39:32];
    assign      zero_point     = layer0[47:40];
    assign      lowest         = layer0[55:48];
    assign      highest        = layer0[63:56];
    wire [13:0] weights_step   = layer1[29:16];  // from a channel to the next
    wire [ 3:0] table_step     = layer1[43:40];
    wire [ 3:0] rows_apart     = layer1[47:44];
    wire [ 8:0] first_row      = {layer1[55], layer1[55:48]};
    wire [ 8:0] first_column   = {layer1[63], layer1[63:56]};
    wire [ 9:0] row_stride     = layer2[25:16];
    wire [ 9:0] row_step       = layer2[41:32];  // rows_apart * row_stride
    wire [ 9:0] column_stride  = layer2[57:48];
    wire [ 9:0] words          = layer3[9:0];
    wire [ 9:0] out_stride     = layer3[57:48];
    wire [ 7:0] height         = layer4[7:0];
    wire [ 7:0] width          = layer4[15:8];
    assign      pad_word       = layer4[25:16];

    // Known long before they are needed.
    reg is_sums, is_greatest, out_by_bytes;
    always @(posedge clk) begin
        is_sums      <= kind == 2'd0;
        is_greatest  <= kind == 2'd2;
        out_by_bytes <= is_sums;
    end

    assign sums     = is_sums;
    assign greatest = is_greatest;

    // ---------------------------------------------------------------- where it stands

    localparam IDLE = 0, FETCH = 1, SETTLE = 2, TAPS = 3, PARAMETER = 4, WAIT = 5, LANES = 6, DRAIN = 7;
    reg [7:0] state;                              // one of them is set
    reg [2:0] count;                              // words fetched, clk waited, lanes
    reg [1:0] quarter;                            // lanes are four clk apart
    reg [3:0] spacing;                            // clk until a group may end
    reg       may_end;                            // none

    reg  [13:0] w_at, w_start, program_at;        // program_at: the next layer
    reg  [ 7:0] t_at, t_start;
    reg  [ 9:0] c;                                // of the tap, counted from two
    reg  [ 7:0] kx, ky, ox, oy;                   // from one
    reg  [ 9:0] channel;                          // how many come behind, less one
    reg  [ 9:0] at, at_column, at_line, at_row, at_channel, at_start;
    reg  [ 8:0] x, x_group, x_start, y, y_start;  // of the tap, signed: may lie outside
    reg  [ 9:0] out, out_channel, out_start;
    reg  [ 2:0] out_byte;
    reg         out_odd;
    reg         first_tap;
    reg  [ 2:1] fresh;                            // a group begins: so many clk ago

    // Each count comes with its end, so that the ends need no comparing when they are asked for.
    reg  c_end, kx_end, ky_end, ox_end, oy_end, last_channel; // none is left
    reg  line_end, group_end;                                 // c and kx; and ky
    wire channel_end = ox_end & oy_end;                       // of a group that ends
    wire layer_end   = ox_end & oy_end & last_channel;

    wire fetch_now     = state[FETCH] & ~hold & (count != 3'd5);
    wire inner_now     = state[TAPS] & ~hold & ~group_end;
    assign group       = state[TAPS] & ~hold & group_end & may_end;
    wire tap_now       = inner_now | group;
    wire parameter_now = state[PARAMETER] & ~hold;
    wire lane_now      = state[LANES] & ~hold & (quarter == 2'd0);
    reg  lane_done, last_lane;                    // its fourth clk

    wire group_two = pair & ~(odd & ox_end);

    // After a group's last tap the pointers wait for what follows it.
    reg  follows;
    wire behind = parameter_now | last_lane;      // what follows is behind them
    wire begin_group = (group & ~follows) | behind | clear;
    wire move   = inner_now | begin_group;

    assign busy  = ~state[IDLE];
    assign clear = state[SETTLE];

    always @(posedge clk) begin
        stop_job <= ~stop_job & busy & ((cycles == limit) | (clear & (kind == 2'd3)));
        stop_now <= reset;
    end

    reg    stop_job, stop_now;
    assign stop = stop_job | stop_now;

    // ---------------------------------------------------------------- what is asked for

    // Whether that is padding is known one clk later.
    reg        was_y_inside, was_x0_inside, was_x1_inside, swap;
    wire       y_inside  = ~y[8] & (y[7:0] < height);
    wire       x0_inside = ~x[8] & (x[7:0] < width);
    wire [8:0] x1        = x + 9'd1;
    wire       x1_inside = ~x1[8] & (x1[7:0] < width);

    assign w_addr  = w_at;
    assign a_addr0 = x[0] ? at + column_stride : at; // bank 0 has column x if that is even, else x + 1
    assign a_addr1 = at;
    assign a_pad0  = ~(was_y_inside & (swap ? was_x1_inside : was_x0_inside));
    assign a_pad1  = ~(was_y_inside & (swap ? was_x0_inside : was_x1_inside));
    assign t_addr  = t_at;
    assign t_read  = from_table & (sums ? group : lane_now);

    always @(posedge clk) begin
        was_y_inside  <= y_inside;
        was_x0_inside <= x0_inside;
        was_x1_inside <= x1_inside;
        swap          <= x[0];
    end

    assign group_tag = {group_two, out_odd, out_byte, out};

    // ---------------------------------------------------------------- with the words

    // The table's word stands until the next, and is taken two clk later than the weight memory's, when the
    // channel before needs its own no more.
    reg [2:1] fetched, fetched_last;
    reg [2:1] tap, tap_is_first, tap_is_last;
    reg [4:1] inlined, tabled, for_lane;
    reg [2:0] lane1, lane2;

    assign tap_valid       = tap[2];
    assign tap_first       = tap_is_first[2];
    assign tap_last        = tap_is_last[2];
    assign tap_swap        = swap;
    assign parameter_valid = from_table ? tabled[4] : inlined[2];
    assign parameter_lane  = from_table ? for_lane[4] : for_lane[2];
    assign lane            = lane2;

    always @(posedge clk) begin
        fetched      <= {fetched[1], fetch_now};
        fetched_last <= {fetched_last[1], fetch_now & (count == 3'd4)};
        tap          <= {tap[1], tap_now};
        tap_is_first <= {tap_is_first[1], first_tap};
        tap_is_last  <= {tap_is_last[1], group_end};
        inlined      <= {inlined[3:1], ~from_table & (parameter_now | lane_now)};
        tabled       <= {tabled[3:1], t_read};
        for_lane     <= {for_lane[3:1], lane_now};
        if (lane_now) lane1 <= count;
        lane2        <= lane1;
        if (stop) begin
            fetched  <= 2'd0;
            tap      <= 2'd0;
            inlined  <= 4'd0;
            tabled   <= 4'd0;
            for_lane <= 4'd0;
        end
    end

    reg [2:0] arrived;
    always @(posedge clk) begin
        if (state[IDLE] | state[DRAIN]) arrived <= 3'd0;
        else if (fetched[2]) arrived <= arrived + 3'd1;
        if (fetched[2]) begin
            if (arrived == 3'd0) layer0 <= w_data;
            if (arrived == 3'd1) layer1 <= w_data;
            if (arrived == 3'd2) layer2 <= w_data;
            if (arrived == 3'd3) layer3 <= w_data;
            if (arrived == 3'd4) layer4 <= w_data;
        end
    end

    // ---------------------------------------------------------------- states

    initial begin
        state = 8'd1 << IDLE;
        {stop_job, stop_now, lane_done, last_lane} = 4'd0;
        fresh = 2'd0;
        quarter = 2'd0;
        failed = 1'b0;
        fetched = 2'd0;
        tap = 2'd0;
        inlined = 4'd0;
        tabled = 4'd0;
        for_lane = 4'd0;
    end

    wire fetched_all = fetched[2] & fetched_last[2];
    wire added       = count == 3'd1; // the last tap, to the lanes' sums

    always @(posedge clk) begin
        if (lane_now | quarter != 2'd0) quarter <= quarter + 2'd1;
        lane_done <= quarter == 2'd2 & ~stop;
        last_lane <= quarter == 2'd2 & count == 3'd7 & ~stop;

        state[IDLE]      <= (state[IDLE] & ~start) | (state[DRAIN] & idle & final_layer) | stop;
        state[FETCH]     <= ((state[IDLE] & start) | (state[FETCH] & ~fetched_all)
                          | (state[DRAIN] & idle & ~final_layer)) & ~stop;
        state[SETTLE]    <= state[FETCH] & fetched_all & ~stop;
        state[TAPS]      <= (state[SETTLE] | (state[TAPS] & ~(group & (~sums | follows | layer_end)))
                          | (behind & ~layer_end)) & ~stop;
        state[PARAMETER] <= ((group & sums & follows) | (state[PARAMETER] & hold)) & ~stop;
        state[WAIT]      <= ((group & ~sums) | (state[WAIT] & ~added)) & ~stop;
        state[LANES]     <= ((state[WAIT] & added) | (state[LANES] & ~last_lane)) & ~stop;
        state[DRAIN]     <= ((group & sums & ~follows & layer_end) | (behind & layer_end)
                          | (state[DRAIN] & ~idle)) & ~stop;

        if (state[FETCH] | state[LANES]) count <= count + {2'd0, fetch_now | lane_done};
        else if (state[WAIT]) count <= {2'd0, ~count[0]};
        else count <= 3'd0;

        if (state[IDLE] & start) failed <= 1'b0;
        if (stop) begin
            failed  <= stop_job;
            quarter <= 2'd0;
        end
    end

    always @(posedge clk) begin
        if (state[IDLE] & start) begin
            cycles <= 24'd0;
            taps   <= 24'd0;
        end else if (busy) begin
            cycles <= cycles + 24'd1;
            if (tap_now & ~greatest) taps <= taps + {22'd0, group_two, ~group_two};
        end
        if (group) spacing <= ~channel_end ? (pair ? 4'd7 : 4'd3) : from_table ? 4'd7 : 4'd8;
        else if (spacing != 4'd0) spacing <= spacing - 4'd1;
        // Nor before it is known where the group after it begins.
        may_end <= (spacing[3:1] == 3'd0) & ~group & ~begin_group & ~fresh[1];
    end

    // ---------------------------------------------------------------- walking: counts

    // A layer is fetched as if all had ended, so that it begins like a channel.
    reg  one_c, one_kx, one_ky, one_ox, one_oy; // each is its own end

    reg  two_c, c_next_end; // the end comes next

    wire c_then  = c_end ? one_c : c_next_end;
    wire kx_then = ~c_end ? kx_end : kx_end ? one_kx : kx == kernel_columns;
    wire ky_then = ~line_end ? ky_end : ky_end ? one_ky : ky == kernel_rows;

    always @(posedge clk) begin
        one_c  <= words == 10'd0;
        two_c  <= words == 10'd1;
        one_kx <= kernel_columns == 8'd0;
        one_ky <= kernel_rows == 8'd0;
        one_ox <= columns == 8'd0;
        one_oy <= rows == 8'd0;

        if (move) begin
            c          <= c_end ? 10'd2 : c + 10'd1;
            c_next_end <= c_end ? two_c : c == words;
            c_end      <= c_then;
            kx_end     <= kx_then;
            ky_end     <= ky_then;
            line_end   <= c_then & kx_then;
            group_end  <= c_then & kx_then & ky_then;
            first_tap  <= group_end;
            if (c_end) kx <= kx_end ? 8'd1 : kx + 8'd1;
            if (line_end) ky <= ky_end ? 8'd1 : ky + 8'd1;
        end
        if (fetched[2]) {c_end, kx_end, ky_end, line_end, group_end} <= 5'h1f;

        // Groups, which are counted in the clk after they begin.
        if (fresh[1]) begin
            ox      <= ox_end ? 8'd1 : ox + 8'd1;
            ox_end  <= ox_end ? one_ox : ox == columns;
            follows <= ~sums | (channel_end & ~from_table);
            if (ox_end) begin
                oy     <= oy_end ? 8'd1 : oy + 8'd1;
                oy_end <= oy_end ? one_oy : oy == rows;
            end
        end
        last_channel <= channel == 10'h3ff;
        if (fetched[2] & arrived == 3'd3) channel <= w_data[25:16];
        else if (fresh[1] & channel_end) channel <= channel - 10'd1;
        if (fetched[2]) {ox_end, oy_end} <= 2'b11;
    end

    // ---------------------------------------------------------------- walking: inside a group

    wire [9:0] from = ~c_end ? at : ~line_end ? at_column : ~group_end ? at_line : at_start;
    wire [9:0] by   = ~c_end ? 10'd1
                    : ~line_end ? (x[0] ? column_stride : 10'd0)
                    : ~group_end ? row_stride
                    : 10'd0;
    wire [9:0] next = from + by;

    always @(posedge clk) if (move) begin
        at <= next;
        if (c_end) at_column <= next;
        if (line_end) at_line <= next;
        if (c_end) x <= ~line_end ? x + 9'd1 : ~group_end ? x_group : x_start;
        if (line_end) y <= ~group_end ? y + 9'd1 : y_start;
        if (group_end) x_group <= x_start;
    end

    // ---------------------------------------------------------------- walking: where the next group begins

    // In the second clk of a group, when it is known which it is, and where its row and channel began.
    wire [9:0] start_from = ~ox_end ? at_start : ~oy_end ? at_row : at_channel;
    wire [9:0] start_by   = ~ox_end ? (by_two | pair | x_start[0] ? column_stride : 10'd0)
                          : ~oy_end ? row_step
                          : {9'd0, ~sums};

    always @(posedge clk) begin
        fresh <= {fresh[1], begin_group};
        if (fresh[1] & ox_end) at_row <= at_start;
        if (fresh[1] & channel_end) at_channel <= at_start;
        if (fetched[2] & arrived == 3'd1) begin
            w_start <= w_data[13:0];
            t_start <= w_data[39:32];
            y_start <= {w_data[55], w_data[55:48]};
            x_start <= {w_data[63], w_data[63:56]};
        end else if (fresh[2]) begin
            x_start <= ox_end ? first_column : x_start + {7'd0, by_two | pair, ~(by_two | pair)};
            if (ox_end) y_start <= oy_end ? first_row : y_start + {5'd0, rows_apart};
            if (channel_end) begin
                w_start <= w_start + weights_step;
                t_start <= t_start + {4'd0, table_step};
            end
        end
        if (fetched[2] & arrived == 3'd2) at_start <= w_data[9:0];
        else if (fresh[2]) at_start <= start_from + start_by;
    end

    // ---------------------------------------------------------------- walking: results

    wire [9:0] out_from = channel_end ? out_channel : out;
    wire [9:0] out_by   = channel_end ? {9'd0, ~out_by_bytes | (out_byte == 3'd7)}
                        : pair | out_odd | ox_end ? out_stride
                        : 10'd0;

    always @(posedge clk) begin
        if (fresh[1]) begin
            out     <= out_start;
            out_odd <= ~out_odd & ~ox_end & ~pair;
            if (channel_end) begin
                out_channel <= out_start;
                out_byte    <= out_byte + {2'd0, out_by_bytes};
            end
        end
        if (fetched[2]) out_byte <= 3'd7;
        if (fetched[2] & arrived == 3'd3) out_start <= w_data[41:32];
        else if (fresh[2]) out_start <= out_from + out_by;
    end

    // ---------------------------------------------------------------- walking: weights, biases and scales

    // Which word is next: it is loaded, or goes on by one.
    wire        w_load = state[IDLE] | state[DRAIN] | begin_group;
    wire        w_on   = fetch_now | tap_now | ((parameter_now | lane_now) & ~from_table);
    wire [13:0] w_from = state[IDLE] ? job_from : state[DRAIN] ? program_at : w_start;

    always @(posedge clk) begin
        if (w_load | w_on) w_at <= w_load ? w_from : w_at + 14'd1;
        if (clear) program_at <= w_at;
        if (begin_group) t_at <= t_start;
        else if (lane_done) t_at <= t_at + 8'd1;
    end

endmodule

`default_nettype wire
