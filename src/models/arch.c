/* arch.c: the table of architectures; see arch.h. */
#include "models/arch.h"

#define ARCH(name, file, norm, pairing) arch_fn arch_##file;
#include "models/arch/archs.def"
#undef ARCH

static const struct arch archs[] = {
#define ARCH(name, file, norm, pairing) { name, arch_##file, NORM_##norm, ROPE_##pairing },
#include "models/arch/archs.def"
#undef ARCH
};

const struct arch *arch_at(size_t i)
{
    return i < sizeof archs / sizeof *archs ? &archs[i] : NULL;
}

const struct arch *arch_find(struct sv name)
{
    for (size_t i = 0; arch_at(i); i++)
        if (sv_eq_cstr(name, archs[i].name))
            return &archs[i];
    return NULL;
}
