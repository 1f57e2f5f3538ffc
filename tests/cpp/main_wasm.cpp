// The kernel tests as a WebAssembly program; see tests/web/test_wasm.py.
int run_tests(bool matrices_alone);

int main() { return run_tests(false); }
