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
    output wire         a_pad0,          // the word of padding instead
    output wire         a_pad1,
    output wire [  7:0] t_addr,
    output wire         t_read,

    // what comes of it, two clk later
    input  wire [ 63:0] w_data,
    output wire         tap_valid,
    output wire         tap_first,
    output wire         tap_last,
    output wire         tap_swap,        // column 0 is in bank 1
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

    assign sums     = kind == 2'd0;
    assign greatest = kind == 2'd2;

    // ---------------------------------------------------------------- where it stands

    localparam IDLE = 0, FETCH = 1, SETTLE = 2, TAPS = 3, PARAMETER = 4, WAIT = 5, LANES = 6, DRAIN = 7;
    reg [7:0] state;                              // one of them is set
    reg [2:0] count;                              // words fetched, clk waited, lanes
    reg [1:0] quarter;                            // lanes are four clk apart
    reg [3:0] spacing;                            // clk until a group may end
    reg       may_end;                            // none

    reg  [13:0] w_at, w_channel, program_at;      // program_at: the next layer
    reg  [ 7:0] t_at, t_channel;
    reg  [ 9:0] c, channel;                       // what is left
    reg  [ 7:0] kx, ky, ox, oy;
    reg  [ 9:0] at, at_column, at_line, at_group, at_row, at_channel;
    reg  [ 8:0] x, x_group, y, y_row;             // of the tap, signed: may lie outside
    reg  [ 9:0] out, out_channel;
    reg  [ 2:0] out_byte;
    reg         out_odd;
    reg         first_tap;

    reg  c_end, kx_end, ky_end, ox_end, oy_end, last_channel; // none is left
    wire column_end  = c_end;
    wire line_end    = c_end & kx_end;
    wire group_end   = c_end & kx_end & ky_end;
    wire row_end     = group_end & ox_end;
    wire channel_end = group_end & ox_end & oy_end;
    wire layer_end   = ox_end & oy_end & last_channel; // of a group that ends

    wire fetch_now     = state[FETCH] & ~hold & (count != 3'd5);
    wire tap_now       = state[TAPS] & ~hold & (may_end | ~group_end);
    wire parameter_now = state[PARAMETER] & ~hold;
    wire lane_now      = state[LANES] & ~hold & (quarter == 2'd0);
    reg  lane_done, last_lane;                    // its fourth clk

    wire group_two = pair & ~(odd & ox_end);

    // After a group's last tap the pointers wait for what follows it.
    reg  follows;
    wire waits = group_end & follows;
    wire move  = (tap_now & ~waits) | parameter_now | last_lane;

    assign busy  = ~state[IDLE];
    assign clear = state[SETTLE];

    always @(posedge clk) begin
        stop_job <= ~stop_job & busy & ((cycles == limit) | (clear & (kind == 2'd3)));
        stop_now <= reset;
    end

    reg    stop_job, stop_now;
    assign stop = stop_job | stop_now;

    // ---------------------------------------------------------------- what is asked for

    wire       y_inside  = ~y[8] & (y[7:0] < height);
    wire       x0_inside = ~x[8] & (x[7:0] < width);
    wire [8:0] x1        = x + 9'd1;
    wire       x1_inside = ~x1[8] & (x1[7:0] < width);

    assign w_addr  = w_at;
    assign a_addr0 = x[0] ? at + column_stride : at; // bank 0 has column x if that is even, else x + 1
    assign a_addr1 = at;
    assign a_pad0  = ~(y_inside & (x[0] ? x1_inside : x0_inside));
    assign a_pad1  = ~(y_inside & (x[0] ? x0_inside : x1_inside));
    assign t_addr  = t_at;
    assign t_read  = from_table & (sums ? tap_now & group_end : lane_now);

    assign group     = tap_now & group_end;
    assign group_tag = {group_two, out_odd, out_byte, out};

    // ---------------------------------------------------------------- with the words

    // The table's word stands until the next, and is taken two clk later than the weight memory's, when the
    // channel before needs its own no more.
    reg [2:1] fetched, fetched_last;
    reg [2:1] tap, tap_is_first, tap_is_last, swap;
    reg [4:1] inlined, tabled, for_lane;
    reg [2:0] lane1, lane2;

    assign tap_valid       = tap[2];
    assign tap_first       = tap_is_first[2];
    assign tap_last        = tap_is_last[2];
    assign tap_swap        = swap[2];
    assign parameter_valid = from_table ? tabled[4] : inlined[2];
    assign parameter_lane  = from_table ? for_lane[4] : for_lane[2];
    assign lane            = lane2;

    always @(posedge clk) begin
        fetched      <= {fetched[1], fetch_now};
        fetched_last <= {fetched_last[1], fetch_now & (count == 3'd4)};
        tap          <= {tap[1], tap_now};
        tap_is_first <= {tap_is_first[1], first_tap};
        tap_is_last  <= {tap_is_last[1], group_end};
        swap         <= {swap[1], x[0]};
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
        quarter = 2'd0;
        failed = 1'b0;
        fetched = 2'd0;
        tap = 2'd0;
        inlined = 4'd0;
        tabled = 4'd0;
        for_lane = 4'd0;
    end

    always @(posedge clk) begin
        if (lane_now | quarter != 2'd0) quarter <= quarter + 2'd1;
        lane_done <= quarter == 2'd2 & ~stop;
        last_lane <= quarter == 2'd2 & count == 3'd7 & ~stop;

        if (state[IDLE] & start) begin
            state  <= 8'd1 << FETCH;
            failed <= 1'b0;
        end
        if (state[FETCH] & fetched_last[2] & fetched[2]) state <= 8'd1 << SETTLE;
        if (state[SETTLE]) state <= 8'd1 << TAPS;
        if (tap_now & group_end) begin
            if (~sums) state <= 8'd1 << WAIT;
            else if (follows) state <= 8'd1 << PARAMETER;
            else if (layer_end) state <= 8'd1 << DRAIN;
        end
        if (parameter_now | last_lane) state <= layer_end ? 8'd1 << DRAIN : 8'd1 << TAPS;
        if (state[WAIT] & count == 3'd1) state <= 8'd1 << LANES; // the last tap is being added
        if (state[DRAIN] & idle) state <= final_layer ? 8'd1 << IDLE : 8'd1 << FETCH;

        if (state[FETCH] | state[LANES]) count <= count + {2'd0, fetch_now | lane_done};
        else if (state[WAIT]) count <= {2'd0, ~count[0]};
        else count <= 3'd0;

        if (stop) begin
            state   <= 8'd1 << IDLE;
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
        if (clear) begin
            spacing <= 4'd0;
            may_end <= 1'b1;
        end else if (tap_now & group_end) begin
            spacing <= ~channel_end ? (pair ? 4'd7 : 4'd3) : from_table ? 4'd7 : 4'd8;
            may_end <= 1'b0;
        end else begin
            if (spacing != 4'd0) spacing <= spacing - 4'd1;
            may_end <= spacing[3:1] == 3'd0;
        end
    end


    // ---------------------------------------------------------------- walking

    wire [ 9:0] next_column  = at_column + (x[0] ? column_stride : 10'd0);
    wire [ 9:0] next_line    = at_line + row_stride;
    wire [ 9:0] next_group   = at_group + ((by_two | pair | x_group[0]) ? column_stride : 10'd0);
    wire [ 9:0] next_row     = at_row + row_step;
    wire [ 9:0] next_channel = at_channel + {9'd0, ~sums};

    // One of them is set: what ends with this tap.
    wire ends_word    = ~c_end;
    wire ends_column  = c_end & ~kx_end;
    wire ends_line    = c_end & kx_end & ~ky_end;
    wire ends_group   = group_end & ~ox_end;
    wire ends_row     = group_end & ox_end & ~oy_end;
    wire ends_channel = group_end & ox_end & oy_end;

    wire [ 9:0] next   = ({10{ends_word}} & (at + 10'd1)) | ({10{ends_column}} & next_column)
                       | ({10{ends_line}} & next_line) | ({10{ends_group}} & next_group)
                       | ({10{ends_row}} & next_row) | ({10{ends_channel}} & next_channel);
    wire [ 8:0] next_x = ({9{ends_word}} & x) | ({9{ends_column}} & (x + 9'd1)) | ({9{ends_line}} & x_group)
                       | ({9{ends_group}} & (x_group + {7'd0, by_two | pair, ~(by_two | pair)}))
                       | ({9{ends_row | ends_channel}} & first_column);
    wire [ 8:0] next_y = ({9{ends_word | ends_column}} & y) | ({9{ends_line}} & (y + 9'd1))
                       | ({9{ends_group}} & y_row) | ({9{ends_row}} & (y_row + {5'd0, rows_apart}))
                       | ({9{ends_channel}} & first_row);
    wire [ 9:0] next_out     = channel_end ? out_channel + {9'd0, ~sums | (out_byte == 3'd7)}
                             : out + ((pair | out_odd | ox_end) ? out_stride : 10'd0);
    wire [13:0] next_weights = w_channel + weights_step;
    wire [ 7:0] next_table   = t_channel + {4'd0, table_step};

    always @(posedge clk) begin
        if (clear) begin
            at <= at_channel; at_column <= at_channel; at_line <= at_channel; at_group <= at_channel;
            at_row <= at_channel;
            x <= first_column; x_group <= first_column;
            y <= first_row; y_row <= first_row;
        end else if (move) begin
            at <= next;
            x  <= next_x;
            y  <= next_y;
            if (column_end) at_column <= next;
            if (line_end) at_line <= next;
            if (group_end) begin
                at_group <= next;
                x_group  <= next_x;
            end
            if (row_end) begin
                at_row <= next;
                y_row  <= next_y;
            end
        end
        if (fetched[2] & arrived == 3'd2) at_channel <= w_data[9:0];
        else if (move & channel_end) at_channel <= next;
    end

    // Each count comes with its end, so that the ends need no comparing when they are asked for.
    always @(posedge clk) begin
        if (clear) begin
            c <= words; kx <= kernel_columns; ky <= kernel_rows; ox <= columns; oy <= rows;
            c_end <= words == 10'd0; kx_end <= kernel_columns == 8'd0; ky_end <= kernel_rows == 8'd0;
            ox_end <= columns == 8'd0; oy_end <= rows == 8'd0; last_channel <= channel == 10'd0;
            first_tap <= 1'b1;
            follows <= ~sums | ~from_table;
        end else if (move) begin
            c     <= c_end ? words : c - 10'd1;
            c_end <= c_end ? words == 10'd0 : c == 10'd1;
            if (column_end) begin
                kx     <= kx_end ? kernel_columns : kx - 8'd1;
                kx_end <= kx_end ? kernel_columns == 8'd0 : kx == 8'd1;
            end
            if (line_end) begin
                ky     <= ky_end ? kernel_rows : ky - 8'd1;
                ky_end <= ky_end ? kernel_rows == 8'd0 : ky == 8'd1;
            end
            if (group_end) begin
                ox     <= ox_end ? columns : ox - 8'd1;
                ox_end <= ox_end ? columns == 8'd0 : ox == 8'd1;
                follows <= ~sums | (channel_end & ~from_table);
            end
            if (row_end) begin
                oy     <= oy_end ? rows : oy - 8'd1;
                oy_end <= oy_end ? rows == 8'd0 : oy == 8'd1;
            end
            first_tap <= group_end;
        end
        if (fetched[2] & arrived == 3'd3) channel <= w_data[25:16];
        else if (move & channel_end) begin
            channel      <= channel - 10'd1;
            last_channel <= channel == 10'd1;
        end
    end

    always @(posedge clk) begin
        if (clear) begin
            out <= out_channel;
            out_byte <= 3'd0;
            out_odd <= 1'b0;
        end else if (move & group_end) begin
            out     <= next_out;
            out_odd <= ~out_odd & ~ox_end & ~pair;
            if (channel_end & sums) out_byte <= out_byte + 3'd1;
        end
        if (fetched[2] & arrived == 3'd3) out_channel <= w_data[41:32];
        else if (move & channel_end) out_channel <= next_out;
    end

    // Which word is next: it is loaded, or goes on by one.
    wire        w_load = state[IDLE] | state[DRAIN] | clear | (move & group_end);
    wire        w_on   = fetch_now | tap_now | ((parameter_now | lane_now) & ~from_table);
    wire [13:0] w_from = state[IDLE] ? job_from : state[DRAIN] ? program_at
                       : (channel_end & ~clear) ? next_weights : w_channel;

    always @(posedge clk) begin
        w_at <= w_load ? w_from : w_at + {13'd0, w_on};
        if (clear) program_at <= w_at;
        if (clear | (move & group_end)) t_at <= (channel_end & ~clear) ? next_table : t_channel;
        else if (lane_done) t_at <= t_at + 8'd1;
        if (fetched[2] & arrived == 3'd1) begin
            w_channel <= w_data[13:0];
            t_channel <= w_data[39:32];
        end else if (move & channel_end) begin
            w_channel <= next_weights;
            t_channel <= next_table;
        end
    end

endmodule

`default_nettype wire
