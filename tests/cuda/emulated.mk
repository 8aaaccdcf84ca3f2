# tests/cuda/emulated.mk - the CUDA kernels and their tests on the host, without a toolkit, from the root:
#   make -f tests/cuda/emulated.mk -j2 check
#   make -f tests/cuda/emulated.mk -j2 check FLAGS="-O1 -g -fsanitize=address,undefined" OUT=build/emulated-asan
#   make -f tests/cuda/emulated.mk agreement CUDA=/path/to/toolkit
OUT = build/emulated
FLAGS = -O2 -g
CUDA = $(dir $(shell command -v nvcc))..
WARN = -Wall -Wextra
INCLUDE = -DHSGD_EMULATION -Itests/emulation/include -Itests/emulation -Isrc -Icuda
RUNTIME = $(patsubst tests/emulation/%.cpp,$(OUT)/emulation/%.o,$(wildcard tests/emulation/*.cpp))
KERNELS = $(patsubst cuda/%.cu,$(OUT)/cuda/%.o,$(wildcard cuda/*.cu))
TESTS = $(patsubst tests/cuda/%.c,$(OUT)/%,$(wildcard tests/cuda/test_*.c)) \
        $(patsubst tests/cuda/%.cpp,$(OUT)/%,$(wildcard tests/cuda/test_*.cpp))

.PHONY: all check agreement
.SECONDARY:
all: $(TESTS)
check: $(TESTS)
	@for test in $(TESTS); do echo "== $$test"; $$test || exit 1; done

agreement:
	$(CC) -std=c17 $(WARN) -fsyntax-only -Itests/emulation/include tests/emulation/agreement.c
	$(CC) -std=c17 $(WARN) -fsyntax-only -isystem $(CUDA)/include tests/emulation/agreement.c

$(OUT)/emulation/%.o: tests/emulation/%.cpp $(wildcard tests/emulation/*.h tests/emulation/include/*.h)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(FLAGS) $(WARN) $(INCLUDE) -c $< -o $@
$(OUT)/cuda/%.o: cuda/%.cu cuda/launch.cuh cuda/kernels.h $(wildcard tests/emulation/include/*.h)
	@mkdir -p $(@D)
	$(CXX) -x c++ -std=c++17 $(FLAGS) $(WARN) -Wno-unknown-pragmas $(INCLUDE) -c $< -o $@
$(OUT)/%.o: tests/cuda/%.c tests/cuda/device.h
	@mkdir -p $(@D)
	$(CC) -std=gnu17 $(FLAGS) $(WARN) $(INCLUDE) -c $< -o $@
$(OUT)/%.o: tests/cuda/%.cpp $(wildcard tests/emulation/include/*.h)
	@mkdir -p $(@D)
	$(CXX) -std=c++17 $(FLAGS) $(WARN) $(INCLUDE) -c $< -o $@
$(OUT)/test_%: $(OUT)/test_%.o $(OUT)/device.o $(KERNELS) $(RUNTIME)
	$(CXX) $(FLAGS) $^ -o $@ -lcmocka -lm
