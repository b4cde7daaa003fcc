// The engine as a program: its registers and wires by Verilator, its AXI4-Lite by standard input and output.
//
//   w ADDRESS WORD   write eight bytes                                       -> nothing
//   h ADDRESS WORD   the same as a host of 32 bits does it, in two halves    -> nothing
//   r ADDRESS        read                                                    -> eight bytes
//   p CLK            from now on, let up to so many clk pass before each handshake -> nothing
//   i CLK            let so many clk pass                                   -> nothing
//   c                nothing                                                 -> clk since the beginning (8 bytes)
//
// ADDRESS and CLK are four bytes; all numbers are little-endian. It ends with its input; with status 3 if the
// slave breaks a rule of the bus, which it then names.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "Vbw_over_axi.h"
#include "verilated.h"

namespace {

constexpr int kPatienceClk = 64;  // for an answer

class Engine {
public:
    Engine() : core_(std::make_unique<Vbw_over_axi>()) {
        core_->s_axi_aclk = 0;
        core_->s_axi_aresetn = 0;
        core_->s_axi_awvalid = core_->s_axi_wvalid = core_->s_axi_bready = 0;
        core_->s_axi_arvalid = core_->s_axi_rready = 0;
        for (int i = 0; i < 8; ++i) clock();
        core_->s_axi_aresetn = 1;
    }

    void write(uint32_t address, uint64_t word, uint8_t bytes) {
        core_->s_axi_awaddr = address;
        core_->s_axi_wdata = word;
        core_->s_axi_wstrb = bytes;
        // Address and data may come in either order.
        const bool address_first = some(1);
        (address_first ? core_->s_axi_awvalid : core_->s_axi_wvalid) = 1;
        bool address_taken = false, data_taken = false;
        uint32_t before_second = pause();
        for (int i = 0; !(address_taken && data_taken); ++i) {
            if (i > kPatienceClk + static_cast<int>(pause_)) broken("a write is not taken");
            if (before_second-- == 0) {
                if (!address_taken) core_->s_axi_awvalid = 1;
                if (!data_taken) core_->s_axi_wvalid = 1;
            }
            core_->eval();
            const bool takes_address = core_->s_axi_awvalid && core_->s_axi_awready;
            const bool takes_data = core_->s_axi_wvalid && core_->s_axi_wready;
            clock();
            if (takes_address) { address_taken = true; core_->s_axi_awvalid = 0; }
            if (takes_data) { data_taken = true; core_->s_axi_wvalid = 0; }
        }
        answered(core_->s_axi_bvalid, core_->s_axi_bready, core_->s_axi_bresp);
    }

    uint64_t read(uint32_t address) {
        idle(pause());
        core_->s_axi_araddr = address;
        core_->s_axi_arvalid = 1;
        for (int i = 0;; ++i) {
            if (i > kPatienceClk) broken("a read is not taken");
            core_->eval();
            const bool taken = core_->s_axi_arready;
            clock();
            if (taken) break;
        }
        core_->s_axi_arvalid = 0;
        answered(core_->s_axi_rvalid, core_->s_axi_rready, core_->s_axi_rresp);
        return word_;
    }

    void idle(uint32_t clk) {
        while (clk-- > 0) clock();
    }

    void pauses(uint32_t clk) { pause_ = clk; }
    uint64_t count() const { return count_; }

private:
    void clock() {
        core_->eval();
        core_->s_axi_aclk = 1;
        core_->eval();
        core_->s_axi_aclk = 0;
        core_->eval();
        ++count_;
    }

    // Waits for an answer, lets it stand for a while, takes it, and sees that it came once.
    void answered(const CData& valid, CData& ready, const CData& response) {
        for (int i = 0; !valid; ++i, clock())
            if (i > kPatienceClk) broken("no answer");
        word_ = core_->s_axi_rdata;
        for (uint32_t i = pause(); i > 0; --i) {
            clock();
            if (!valid) broken("an answer did not wait");
            if (core_->s_axi_rvalid && core_->s_axi_rdata != word_) broken("what was read changed before it was taken");
        }
        if (response != 0) broken("an answer other than OKAY");
        ready = 1;
        clock();
        ready = 0;
        if (core_->s_axi_bvalid || core_->s_axi_rvalid) broken("two answers");
    }

    uint32_t pause() { return some(pause_); }

    // 0 to `most`, from dice that always fall the same.
    uint32_t some(uint32_t most) {
        dice_ = dice_ * 6364136223846793005u + 1442695040888963407u;
        return static_cast<uint32_t>((dice_ >> 33) % (uint64_t{most} + 1));
    }

    [[noreturn]] static void broken(const char* what) {
        std::fprintf(stderr, "the slave breaks a rule of AXI: %s\n", what);
        std::exit(3);
    }

    std::unique_ptr<Vbw_over_axi> core_;
    uint64_t count_ = 0;
    uint64_t dice_ = 1;
    uint64_t word_ = 0;
    uint32_t pause_ = 0;
};

uint64_t number(int len) {
    uint64_t value = 0;
    for (int i = 0; i < len; ++i) {
        const int byte = std::getchar();
        if (byte == EOF) std::exit(0);
        value |= static_cast<uint64_t>(byte) << (8 * i);
    }
    return value;
}

void answer(uint64_t word) {
    uint8_t out[8];
    for (int i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(word >> (8 * i));
    if (std::fwrite(out, 1, 8, stdout) != 8 || std::fflush(stdout) != 0) std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    Engine engine;
    for (int what = std::getchar(); what != EOF; what = std::getchar()) {
        switch (what) {
            case 'w': {
                const uint32_t address = static_cast<uint32_t>(number(4));
                engine.write(address, number(8), 0xff);
                break;
            }
            case 'h': {
                const uint32_t address = static_cast<uint32_t>(number(4));
                const uint64_t word = number(8);
                engine.write(address, word, 0x0f);
                engine.write(address + 4, word, 0xf0);
                break;
            }
            case 'r': answer(engine.read(static_cast<uint32_t>(number(4)))); break;
            case 'p': engine.pauses(static_cast<uint32_t>(number(4))); break;
            case 'i': engine.idle(static_cast<uint32_t>(number(4))); break;
            case 'c': answer(engine.count()); break;
            default:
                std::fprintf(stderr, "unknown request %d\n", what);
                return 2;
        }
    }
    return 0;
}
