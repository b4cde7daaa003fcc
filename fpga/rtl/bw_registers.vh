// The engine as its host sees it: made from registers.toml; change that.

localparam [31:0] ENGINE_ID = 32'h31455742;

localparam [1:0] SPACE_REGISTERS    = 2'd0;
localparam [1:0] SPACE_WEIGHTS      = 2'd1;
localparam [1:0] SPACE_ACTIVATIONS  = 2'd2;
localparam [1:0] SPACE_TABLE        = 2'd3;

localparam [2:0] REGISTER_ID        = 3'd0;
localparam [2:0] REGISTER_BUILD     = 3'd1;
localparam [2:0] REGISTER_STATUS    = 3'd2;
localparam [2:0] REGISTER_CYCLES    = 3'd3;
localparam [2:0] REGISTER_TAPS      = 3'd4;
localparam [2:0] REGISTER_CHECK     = 3'd5;
localparam [2:0] REGISTER_JOB       = 3'd6;
localparam [2:0] REGISTER_STOP      = 3'd7;
