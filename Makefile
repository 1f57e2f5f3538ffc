# Two commands do everything: `make report` and `make test`. They need Python >= 3.10, a C++17
# compiler and make; all else goes into .venv, which `make clean` removes again.
#   ARGS=...              passed on: make report ARGS="--quick", make test ARGS="-k corpus"
#   PYTHON=...            the interpreter to use instead of the first suitable one
#   SYSTEM_PACKAGES=no    leave apt and Homebrew alone
#   TORCH=... JAX=...     what `make peers` installs of PyTorch and JAX: TORCH=torch==2.13.0; for an
#                         NVIDIA GPU TORCH='--force-reinstall torch' JAX='jax[cuda12]>=0.5'

python := .venv/bin/python
pip := $(python) -m pip --disable-pip-version-check
cmake := .venv/bin/cmake
jobs := $(shell getconf _NPROCESSORS_ONLN)
export PYTHON SYSTEM_PACKAGES
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.PHONY: help report test web peers kernels sanitize tsan fuzz arm arm-tests emulate instructions docs lint clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

report: .venv/installed .venv/toolchains ## verify and time every implementation, write reports/
	$(python) -m bench.run_all $(ARGS)

test: .venv/installed .venv/toolchains .venv/web $(cmake) ## run every test, those in C++ too
	$(python) -m pytest $(ARGS)

# The package is installed editable: Python sources are used where they are, so only a change of
# these files builds anew.
.venv/installed: CMakeLists.txt pyproject.toml $(shell find cpp -type f) | $(python)
	$(pip) install --quiet --editable '.[bench,sweep,test]'
	@touch $@

$(python):
	tools/venv.sh .venv

$(cmake): | $(python)
	$(pip) install --quiet cmake

# Without a GPU's libraries, which are gigabytes; an index that has no such PyTorch needs TORCH.
TORCH := torch --index-url https://download.pytorch.org/whl/cpu
JAX := jax>=0.5
peers: .venv/installed ## install PyTorch, JAX and Numba, for their rows in the report
	$(pip) install --quiet '$(JAX)' 'numba>=0.61' threadpoolctl
	$(pip) install --quiet $(TORCH)

web: .venv/web ## build/web/index.html: the page that trains in a browser
	$(python) tools/web.py build/web

.venv/web: Makefile | $(python)
	$(pip) install --quiet 'wasmtime>=25' websocket-client 'ziglang>=0.17,<0.18'
	@touch $@

# Optional: without them the benchmark's rows say what to install. Tried once.
.venv/toolchains: | $(python)
	@command -v pypy3 >/dev/null || tools/install.sh pypy3 || true
	@command -v rustc >/dev/null || tools/install.sh rustc rust || true
	@touch $@

# $(call kernel_tests,FOLDER,CMAKE OPTIONS[,BUILD OPTIONS,CTEST OPTIONS]): build tests/cpp under
# build/FOLDER and run it.
comma := ,
define kernel_tests
$(cmake) -S . -B build/$(1) --log-level=WARNING -DPYMICROGPT_PYTHON=OFF -DPYMICROGPT_TESTS=ON $(2)
$(cmake) --build build/$(1) --parallel $(jobs) $(3)
.venv/bin/ctest --test-dir build/$(1) --output-on-failure --parallel $(jobs) $(4)
endef

kernels: $(cmake) ## run the C++ kernel tests alone
	$(call kernel_tests,kernels)

# Sanitizers make kernels slow to compile: those that cannot run here are left out, and the second
# table of AVX-512, which has one formula of its own.
avx512 := -DPYMICROGPT_LEAVE_OUT=avx512_twice -DPYMICROGPT_AVX512=$(if $(shell grep -m 1 avx512dq /proc/cpuinfo 2>/dev/null),ON,OFF)

sanitize: $(cmake) ## run the kernel tests under AddressSanitizer and UBSan
	$(call kernel_tests,sanitize,$(avx512) -DPYMICROGPT_SANITIZE=address$(comma)undefined)

tsan: $(cmake) ## run the tests of threads under ThreadSanitizer
	$(call kernel_tests,tsan,$(avx512) -DPYMICROGPT_SANITIZE=thread,--target test_threads,-R threads)

seconds := 60
fuzz: .venv/installed ## damaged files for every loader, for seconds=60
	PYTHONPATH=. $(python) tests/helpers/fuzz.py --seconds $(seconds)

# Static, so that the emulator needs no aarch64 system libraries. SME takes clang 18 or newer, with the
# headers and libraries of the GNU cross compiler, which without clang compiles NEON alone.
clang := $(firstword $(foreach n,21 20 19 18,$(notdir $(shell command -v clang++-$(n)))))
aarch64 := -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=$(or $(clang),aarch64-linux-gnu-g++) \
  $(if $(clang),-DCMAKE_CXX_COMPILER_TARGET=aarch64-linux-gnu) -DCMAKE_EXE_LINKER_FLAGS=-static \
  -DCMAKE_CROSSCOMPILING_EMULATOR=qemu-aarch64

ifneq ($(filter aarch64 arm64,$(shell uname -m)),)
arm: kernels ## run the kernel tests on aarch64, elsewhere under qemu: NEON, and SME where clang is
else
arm: $(cmake)
	@command -v aarch64-linux-gnu-g++ >/dev/null || tools/install.sh g++-aarch64-linux-gnu
	@command -v qemu-aarch64 >/dev/null || tools/install.sh qemu-user qemu
	@[ -n "$(clang)" ] || tools/install.sh clang-19 || echo "without clang, SME is left out" >&2
	@$(MAKE) arm-tests
endif
arm-tests: .venv/installed
	$(call kernel_tests,arm,$(aarch64))
	PYMICROGPT_EMULATED="qemu-aarch64 build/arm/tests/cpp/train" $(python) -m pytest -q tests/cpp/test_emulated.py

# At -O1: emulated kernels are slow to compile, and fast enough.
emulate: $(cmake) ## run the AVX-512 kernel tests where the CPU has AVX2 alone
	$(call kernel_tests,emulate,-DPYMICROGPT_EMULATE=ON,--target test_kernels_avx512 test_kernels_avx512_twice test_model,-R avx512)

docs: .venv/installed ## build/docs/: the documents and the API reference as HTML
	@$(python) -c "import pdoc" 2>/dev/null || $(pip) install --quiet 'pdoc>=14'
	PYTHONPATH=. $(python) tools/docs.py build/docs

instructions: .venv/installed $(cmake) ## count the instructions of a step with callgrind
	@command -v valgrind >/dev/null || tools/install.sh valgrind
	$(cmake) -S . -B build/kernels --log-level=WARNING -DPYMICROGPT_PYTHON=OFF -DPYMICROGPT_TESTS=ON
	$(cmake) --build build/kernels --parallel $(jobs) --target count_steps
	$(python) -m bench instructions build/kernels/tests/cpp/count_steps $(ARGS)

simd := $(if $(filter aarch64 arm64,$(shell uname -m)),neon,avx2)
# clang-tidy reads plain.cpp once, not for each of its tables.
lint: .venv/linters $(cmake) ## ruff, mypy, clang-format, clang-tidy, gersemi; the workflows against their schema
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy pymicrogpt bench
	git ls-files '*.cpp' '*.h' | xargs .venv/bin/clang-format --dry-run -Werror
	! git grep -nE '^.{101}' -- '*.cpp' '*.h'  # comments, which it leaves as they are
	.venv/bin/gersemi --check CMakeLists.txt tests/cpp/CMakeLists.txt
	$(cmake) -S . -B build/tidy --log-level=WARNING -DPYMICROGPT_PYTHON=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON \
	  -DPYMICROGPT_AVX512=OFF '-DPYMICROGPT_LEAVE_OUT=autovec_v3;scalar_v3;scalar_baseline'
	ls cpp/*.cpp cpp/isa/plain.cpp cpp/isa/$(simd).cpp | xargs -n 1 -P $(jobs) .venv/bin/clang-tidy -p build/tidy --quiet
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/bin/zizmor --offline --quiet .github/workflows

.venv/linters: Makefile | $(python)
	$(pip) install --quiet check-jsonschema clang-format==23.1.5 clang-tidy==23.1.4 gersemi==0.29.2 jinja2 ruff mypy numpy safetensors zizmor
	@touch $@

clean: ## remove everything that was built, .venv included
	rm -rf .venv build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis .benchmarks
	find . -name __pycache__ -prune -exec rm -rf {} +
