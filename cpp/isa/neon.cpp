// NEON: what every aarch64 CPU has.
#include "neon.h"

#include "export.h"
