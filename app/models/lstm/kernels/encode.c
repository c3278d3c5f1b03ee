#include "functions.h"
#include "product.h"
