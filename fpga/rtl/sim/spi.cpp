// The engine as a program: its registers and wires by Verilator, its SPI by standard input and output.
//
//   t LEN bytes   select, clock the bytes in, unselect   -> the LEN bytes that came out
//   r CLK         let so many clk pass                   -> irq
//   c             nothing                                -> clk since the beginning (8 bytes)
//   s TICKS       half a period of SCK; clk's is 60      -> nothing
//
// LEN, CLK and TICKS are four bytes; all numbers are little-endian. It ends with its input.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include "Vbw_over_spi.h"
#include "verilated.h"

namespace {

constexpr uint64_t kClkHalf = 60;       // ticks
constexpr uint32_t kLenMax = 1u << 16;  // bytes of a transaction
constexpr int kIdleClk = 8;             // between transactions, CS high

class Engine {
public:
    Engine() : core_(std::make_unique<Vbw_over_spi>()) {
        core_->clk = 0;
        core_->sck = 0;
        core_->cs_n = 1;
        core_->mosi = 0;
        core_->reset = 1;
        core_->eval();
        clocks(8);
        core_->reset = 0;
        clocks(8);
    }

    void transfer(std::vector<uint8_t>& bytes) {
        core_->cs_n = 0;
        until(now_ + sck_half_);
        for (uint8_t& byte : bytes) {
            uint8_t in = 0;
            for (int bit = 7; bit >= 0; --bit) {
                core_->mosi = (byte >> bit) & 1;
                until(now_ + sck_half_);
                in = static_cast<uint8_t>(in << 1 | core_->miso);
                core_->sck = 1;
                core_->eval();
                until(now_ + sck_half_);
                core_->sck = 0;
                core_->eval();
            }
            byte = in;
        }
        until(now_ + sck_half_);
        core_->cs_n = 1;
        core_->eval();
        clocks(kIdleClk);
    }

    void clocks(uint64_t count) { until(now_ + 2 * kClkHalf * count); }
    void sck_half(uint32_t ticks) { sck_half_ = ticks; }
    uint8_t irq() const { return core_->irq; }
    uint64_t count() const { return count_; }

private:
    // Lets time pass, clk running.
    void until(uint64_t then) {
        while (edge_ <= then) {
            core_->clk = !core_->clk;
            count_ += core_->clk;
            core_->eval();
            edge_ += kClkHalf;
        }
        core_->eval();
        now_ = then;
    }

    std::unique_ptr<Vbw_over_spi> core_;
    uint64_t now_ = 0;
    uint64_t edge_ = kClkHalf;
    uint64_t count_ = 0;
    uint64_t sck_half_ = kClkHalf;
};

bool read(void* to, size_t len) { return std::fread(to, 1, len, stdin) == len; }

uint32_t number() {
    uint8_t b[4];
    if (!read(b, 4)) std::exit(0);
    return b[0] | b[1] << 8 | b[2] << 16 | static_cast<uint32_t>(b[3]) << 24;
}

void answer(const void* from, size_t len) {
    if (std::fwrite(from, 1, len, stdout) != len || std::fflush(stdout) != 0) std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    Engine engine;
    std::vector<uint8_t> bytes;
    for (int what = std::getchar(); what != EOF; what = std::getchar()) {
        switch (what) {
            case 't': {
                const uint32_t len = number();
                if (len > kLenMax) return 2;
                bytes.resize(len);
                if (!read(bytes.data(), len)) return 0;
                engine.transfer(bytes);
                answer(bytes.data(), len);
                break;
            }
            case 'r': {
                engine.clocks(number());
                const uint8_t irq = engine.irq();
                answer(&irq, 1);
                break;
            }
            case 'c': {
                uint8_t out[8];
                for (int i = 0; i < 8; ++i) out[i] = static_cast<uint8_t>(engine.count() >> (8 * i));
                answer(out, 8);
                break;
            }
            case 's': {
                const uint32_t ticks = number();
                if (ticks < kClkHalf) return 2;
                engine.sck_half(ticks);
                break;
            }
            default:
                std::fprintf(stderr, "unknown request %d\n", what);
                return 2;
        }
    }
    return 0;
}
