# What placing and routing aim at; the oscillator gives 24 MHz.
ctx.addClock("clk", 42)
