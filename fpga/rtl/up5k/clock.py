# What nextpnr aims at; the oscillator gives 24 MHz.
ctx.addClock("clk", 42)
