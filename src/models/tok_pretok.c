/* tok_pretok.c: which pre-tokenizer each name of tokenizer.ggml.pre stands for, and
 * the machine that runs its stages.
 *
 * A pre-tokenizer is a sequence of stages; each cuts every piece of the one before
 * (Hugging Face's Split with behaviour "isolated": what a pattern matches becomes a
 * piece, what lies between two matches stays together as one). The patterns are
 * those of the models' published tokenizer.json files or tiktoken definitions.
 *
 * PCRE2 runs the stages that have no hand-written form, with these differences
 * from the originals' engines removed: \s is the property White_Space (PCRE2's has
 * U+180E as well), and groups repeated at the end of an alternative are possessive,
 * so that a long text needs no stack. Input is made valid UTF-8 of the same length
 * first: a bad byte becomes U+0001, a control character, as in tok_split.c. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/mem.h"
#include "models/tok_impl.h"

/* ---- patterns ---- */

#define CONTRACT "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CASED(suffix, number, tail, final)                                              \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*"                       \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+" suffix                                             \
    "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"                      \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" suffix                                             \
    "|" number "| ?[^\\s\\p{L}\\p{N}]+" tail "|" final
#define WORDS(contract, letters, number, not_punct, tail)                               \
    contract "[^\\r\\n\\p{L}\\p{N}]?" letters "+|" number "| ?[^\\s" not_punct "]+"     \
    tail "|" SPACES

#define RE(pattern) { .kind = SPLIT_REGEX, .regex = pattern }

#define GPT2                                                                            \
    { .kind = SPLIT_GPT2, .regex = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|"       \
                                   " ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" }
#define DIGITS1 { .kind = SPLIT_NUMBERS, .max_digits = 1, .regex = "\\p{N}" }
#define DIGITS3 { .kind = SPLIT_NUMBERS, .max_digits = 3, .regex = "\\p{N}{1,3}" }
#define DIGITS { .kind = SPLIT_NUMBERS, .regex = "\\p{N}+" }
#define LLAMA3                                                                          \
    { .kind = SPLIT_CL100K, .flags = SPLIT_CONTRACTION, .max_digits = 3,                \
      .regex = WORDS(CONTRACT "|", "\\p{L}", "\\p{N}{1,3}", "\\p{L}\\p{N}", "[\\r\\n]*") }
#define QWEN2                                                                           \
    { .kind = SPLIT_CL100K, .flags = SPLIT_CONTRACTION, .max_digits = 1,                \
      .regex = WORDS(CONTRACT "|", "\\p{L}", "\\p{N}", "\\p{L}\\p{N}", "[\\r\\n]*") }
#define QWEN35                                                                          \
    { .kind = SPLIT_CL100K, .flags = SPLIT_CONTRACTION | SPLIT_MARKS, .max_digits = 1,  \
      .regex = WORDS(CONTRACT "|", "[\\p{L}\\p{M}]", "\\p{N}", "\\p{L}\\p{M}\\p{N}",    \
                     "[\\r\\n]*") }
#define UFAKZEKA                                                                        \
    { .kind = SPLIT_CL100K, .max_digits = 1,                                            \
      .regex = WORDS("", "\\p{L}", "\\p{N}", "\\p{L}\\p{N}", "[\\r\\n]*") }
#define SEED                                                                            \
    { .kind = SPLIT_CL100K, .flags = SPLIT_CONTRACTION | SPLIT_NO_TAIL, .max_digits = 1, \
      .regex = WORDS(CONTRACT "|", "\\p{L}", "\\p{N}{1}", "\\p{L}\\p{N}\\r\\n", "") }
#define MINICPM5                                                                        \
    { .kind = SPLIT_CL100K, .flags = SPLIT_CONTRACTION,                                 \
      .regex = WORDS(CONTRACT "|", "\\p{L}", "\\p{N}+", "\\p{L}\\p{N}", "[\\r\\n]*") }
#define BAILING                                                                         \
    { .kind = SPLIT_CL100K, .flags = SPLIT_CONTRACTION, .max_digits = 1,                \
      .regex = "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}|"           \
               " ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+" }
#define GPT4O                                                                           \
    { .kind = SPLIT_O200K, .flags = SPLIT_CONTRACTION | SPLIT_SLASH, .max_digits = 3,   \
      .regex = CASED(CONTRACT "?", "\\p{N}{1,3}", "[\\r\\n/]*", SPACES) }
#define GPT4O_DIGIT                                                                     \
    { .kind = SPLIT_O200K, .flags = SPLIT_CONTRACTION | SPLIT_SLASH, .max_digits = 1,   \
      .regex = CASED(CONTRACT "?", "\\p{N}", "[\\r\\n/]*", SPACES) }
#define TEKKEN                                                                          \
    { .kind = SPLIT_O200K, .flags = SPLIT_SLASH, .max_digits = 1,                       \
      .regex = CASED("", "\\p{N}", "[\\r\\n/]*", SPACES) }
#define NO_HAN(class) "(?:(?!\\p{sc:Han})[" class "])"
#define KIMI_U NO_HAN("\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}")
#define KIMI_L NO_HAN("\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}")
#define KIMI                                                                            \
    { .kind = SPLIT_O200K, .flags = SPLIT_CONTRACTION | SPLIT_NO_HAN, .max_digits = 3,  \
      .regex = "\\p{sc:Han}+|[^\\r\\n\\p{L}\\p{N}]?" KIMI_U "*" KIMI_L "+" CONTRACT "?"    \
               "|[^\\r\\n\\p{L}\\p{N}]?" KIMI_U "+" KIMI_L "*" CONTRACT "?"             \
               "|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" SPACES }
#define LINES { .kind = SPLIT_LINES, .regex = "[^\\n]+|[\\n]+" }
#define BLOOM RE(" ?[^(\\s|.,!?…。，、।۔،)]+")
#define ASCII_PUNCT "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~]"
#define DEEPSEEK3(tail)                                                                 \
    RE(ASCII_PUNCT "[A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"             \
       " ?[\\p{P}\\p{S}]+" tail "|\\s+(?!\\S)|\\s+")
#define CJK_KANA RE("[一-龥\\x{3040}-ゟ゠-ヿ]+")
/* The letters that DeepSeek-LLM's pattern lists: cased alphabets of Unicode 11. */
#define CASED_LETTERS \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}" \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}" \
    "\\x{37B}-\\x{37D}\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}" \
    "\\x{3A3}-\\x{3F5}\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}" \
    "\\x{10A0}-\\x{10C5}\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}" \
    "\\x{1CBD}-\\x{1CBF}\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}" \
    "\\x{1E00}-\\x{1F15}\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}" \
    "\\x{1F50}-\\x{1F57}\\x{1F59}\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}" \
    "\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}\\x{1FC2}-\\x{1FC4}" \
    "\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}\\x{1FE0}-\\x{1FEC}" \
    "\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}\\x{210A}-\\x{2113}" \
    "\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}\\x{212A}-\\x{212D}" \
    "\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}\\x{214E}" \
    "\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}" \
    "\\x{2CB2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}" \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}" \
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}" \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}" \
    "\\x{10CC0}-\\x{10CF2}\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
/* \d{1,3}(?=(?:\d{3})*\b) with Oniguruma's \w: Alphabetic, marks, Nd, Pc. */
#define GROUP3                                                                          \
    "\\d{1,3}(?=(?:\\d{3})*+(?![\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}"   \
    "\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}]))"
/* HF's Punctuation: ASCII punctuation and the categories P. */
#define PUNCTUATION "[\\p{P}!-/:-@\\[-`{-~]"

/* { names…, flags, stages }: one line per family; aliases share a row's stages. */
#define ROW(n, ...) { .name = n, __VA_ARGS__ }
#define STAGES(...)                                                                     \
    .stages = { __VA_ARGS__ },                                                          \
    .n_stages = sizeof((struct split_stage[]){ __VA_ARGS__ }) / sizeof(struct split_stage)

static const struct pretok table[] = {
    /* What files without a name have always meant. */
    ROW("default", STAGES(RE("[\\p{P}$+<=>^~|]+"), GPT2, DIGITS, RE("[0-9][0-9][0-9]"))),

    ROW("gpt-2", STAGES(GPT2)),
    ROW("phi-2", STAGES(GPT2)),
    ROW("jina-es", STAGES(GPT2)),
    ROW("jina-de", STAGES(GPT2)),
    ROW("jina-v2-es", STAGES(GPT2)),
    ROW("jina-v2-de", STAGES(GPT2)),
    ROW("gigachat", STAGES(GPT2)),
    ROW("a.x-4.0", STAGES(GPT2)),
    ROW("mellum", STAGES(GPT2)),
    ROW("modern-bert", .nfc = true, STAGES(GPT2)),
    ROW("mpt", .nfc = true, STAGES(GPT2)),
    ROW("olmo", .nfc = true, STAGES(GPT2)),
    ROW("jais", STAGES(GPT2)),
    ROW("trillion", STAGES(GPT2)),
    ROW("granite-docling", STAGES(GPT2)),
    ROW("exaone4", STAGES(GPT2)),
    ROW("jina-v1-en", .add_sep = true, STAGES(GPT2)),
    ROW("jina-v2-code", .add_sep = true, STAGES(GPT2)),
    ROW("roberta-bpe", .add_sep = true, STAGES(GPT2)),

    ROW("starcoder", STAGES(DIGITS1, GPT2)),
    ROW("refact", STAGES(DIGITS1, GPT2)),
    ROW("command-r", .nfc = true, STAGES(DIGITS1, GPT2)),
    ROW("smollm", STAGES(DIGITS1, GPT2)),
    ROW("codeshell", STAGES(DIGITS1, GPT2)),
    ROW("exaone", STAGES(DIGITS1, GPT2)),
    ROW("minerva-7b", STAGES(DIGITS1, GPT2)),
    ROW("mellum2", STAGES(DIGITS1, GPT2)),

    ROW("llama3", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("llama-v3", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("llama-bpe", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("falcon3", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("falcon-h1", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("pixtral", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("midm-2.0", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("lfm2", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("jina-v5-nano", .ignore_merges = true, .add_bos = true, STAGES(LLAMA3)),
    ROW("dbrx", STAGES(LLAMA3)),
    ROW("smaug-bpe", STAGES(LLAMA3)),
    ROW("glm4", STAGES(LLAMA3)),
    ROW("chatglm-bpe", STAGES(LLAMA3)),
    ROW("minicpm5", .ignore_merges = true, STAGES(DIGITS3, MINICPM5)),
    ROW("jais-2", STAGES({ .kind = SPLIT_CL100K, .flags = SPLIT_CONTRACTION | SPLIT_CASCADE,
        .max_digits = 3, .regex = CONTRACT "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|"
        " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s{512}(?!\\S)|\\s{256}(?!\\S)|"
        "\\s{128}(?!\\S)|\\s{64}(?!\\S)|\\s{32}(?!\\S)|\\s{16}(?!\\S)|\\s{8}(?!\\S)|"
        "\\s{4}(?!\\S)|\\s{1,2}(?!\\S)|\\s{1}" })),

    ROW("qwen2", .nfc = true, STAGES(QWEN2)),
    ROW("deepseek-r1-qwen", .nfc = true, STAGES(QWEN2)),
    ROW("kormo", .nfc = true, STAGES(QWEN2)),
    ROW("f2llmv2", .nfc = true, STAGES(QWEN2)),
    ROW("megrez", .nfc = true, STAGES(QWEN2)),
    ROW("stablelm2", STAGES(QWEN2)),
    ROW("hunyuan", STAGES(QWEN2)),
    ROW("solar-open", STAGES(QWEN2)),
    ROW("grok-2", STAGES(QWEN2)),
    ROW("laguna", STAGES(LINES, QWEN2)),
    ROW("qwen35", .nfc = true, STAGES(QWEN35)),
    ROW("ufakzeka", STAGES(UFAKZEKA)),
    ROW("seed-coder", STAGES(SEED)),
    ROW("bailingmoe", STAGES(BAILING)),
    ROW("bailingmoe2", STAGES(BAILING)),
    ROW("llada-moe", STAGES(BAILING)),
    ROW("exaone-moe", STAGES(RE(CONTRACT "|[^\\r\\n\\p{L}\\p{N}]?"
        "(?:\\p{L}\\p{M}*+(?: \\p{L}\\p{M}*+)*+)++|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]?|"
        "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"))),

    ROW("gpt-4o", STAGES(GPT4O)),
    ROW("llama4", STAGES(GPT4O)),
    ROW("kanana2", STAGES(GPT4O)),
    ROW("talkie", STAGES(GPT4O)),
    ROW("minimax-m2", STAGES(GPT4O)),
    ROW("granite-embed-multi-97m", .ignore_merges = true, STAGES(GPT4O)),
    ROW("tekken", .ignore_merges = true, .add_bos = true, STAGES(TEKKEN)),
    ROW("tiny_aya", STAGES({ .kind = SPLIT_GROUP3, .regex = GROUP3 },
        GPT4O)),
    ROW("cohere2moe", STAGES({ .kind = SPLIT_GROUP3, .regex = GROUP3 },
        GPT4O)),
    ROW("youtu", .ignore_merges = true, STAGES(
        RE("[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥\\x{3040}-ゟ゠-ヿ]+"), GPT4O_DIGIT)),
    ROW("kimi-k2", STAGES(KIMI)),

    ROW("deepseek-llm", STAGES(RE("[\\r\\n]"), RE("\\s?[" CASED_LETTERS "]+"),
        RE("\\s?[!-/:-~！-／：-～‘-‟\\x{3000}-。]+"), { .kind = SPLIT_TRAILING, .regex = "\\s+$" },
        RE("[一-龥\\x{800}-一가-\\x{D7FF}]+"), DIGITS1)),
    ROW("deepseek-coder", STAGES(RE("[\\r\\n]"), RE("\\s?\\p{L}+"), RE("\\s?\\p{P}+"),
        RE("[一-龥\\x{800}-一가-\\x{D7FF}]+"), DIGITS1)),
    ROW("deepseek-v3", STAGES(DIGITS3, CJK_KANA, DEEPSEEK3("[\\r\\n]*|\\s*[\\r\\n]+"))),
    ROW("hunyuan-dense", STAGES(DIGITS3, CJK_KANA, DEEPSEEK3("[\\r\\n]*|\\s*[\\r\\n]+"))),
    ROW("joyai-llm", STAGES(DIGITS3, CJK_KANA, DEEPSEEK3("[\\r\\n]*|\\s*[\\r\\n]+"))),
    ROW("hy_v4", STAGES(DIGITS3, CJK_KANA, DEEPSEEK3("[\\r\\n]*|\\s*[\\r\\n]+"))),
    ROW("spark2_5", STAGES(DIGITS3, CJK_KANA, DEEPSEEK3("|[\\r\\n]"), DIGITS1)),
    ROW("afmoe", STAGES({ .kind = SPLIT_LEAD3,
                          .regex = "\\p{N}{1,3}(?=(?:\\p{N}{3})*+(?!\\p{N}))" },
        RE("[一-鿿㐀-䶿\\x{F900}-\\x{FAFF}\\x{3040}-ゟ゠-ヿ･-ﾟ\\x{2F00}-\\x{2FDF}เ-\\x{E7F}"
           "\\x{E80}-\\x{EFF}ក-\\x{17FF}က-႟ꩠ-ꩿ\\x{A9E0}-\\x{A9FF}가-\\x{D7AF}ᄀ-ᇿ]+"),
        DEEPSEEK3("[\\r\\n]*|\\s*[\\r\\n]+"))),

    ROW("falcon", STAGES({ .kind = SPLIT_PUNCT, .regex = PUNCTUATION "+" }, GPT2, { .kind = SPLIT_BYTE_DIGITS },
        { .kind = SPLIT_ASCII3 })),
    ROW("superbpe", STAGES(DIGITS, { .kind = SPLIT_BEFORE3,
                                     .regex = "(?=(\\d{3})+(?!\\d))" })),
    ROW("bloom", STAGES(BLOOM)),
    ROW("gpt3-finnish", STAGES(BLOOM)),
    ROW("poro-chat", STAGES(BLOOM)),
    ROW("viking", STAGES(BLOOM, DIGITS1)),
    ROW("chameleon", .add_bos = true, STAGES(RE("<sentinel:[0-9]+>"),
        RE("(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z"), RE("([\\t\\n]|    |  )"), DIGITS1,
        { .kind = SPLIT_PUNCT, .max_digits = 1, .regex = PUNCTUATION }, GPT2)),

    ROW("gemma4", .raw = true, .add_bos = true, STAGES(LINES)),
    ROW("granite-embed-multi-311m", .raw = true, .add_bos = true, STAGES(LINES)),
    ROW("sarvam-moe", .raw = true, STAGES(LINES)),
    ROW("whitespace", .raw = true, STAGES(RE("\\S+"))),
};

size_t pretok_count(void) { return sizeof table / sizeof *table; }
const struct pretok *pretok_at(size_t i) { return &table[i]; }

const struct pretok *pretok_find(struct sv name)
{
    if (name.len == 0)
        return &table[0];
    for (size_t i = 0; i < pretok_count(); i++)
        if (sv_eq_cstr(name, table[i].name))
            return &table[i];
    return NULL;
}

/* ---- running stages ---- */

struct splitter {
    const struct pretok   *p;
    bool                   by_regex;
    unsigned               n_regex;
    pcre2_code            *code[PRETOK_MAX_STAGES];
    pcre2_general_context *general;
};

struct split_scratch {
    pcre2_match_data    *data[PRETOK_MAX_STAGES];
    pcre2_match_context *match;
    pcre2_jit_stack     *stack;
    struct str           clean;     /* the text as valid UTF-8 */
};

static void *pcre_alloc(size_t n, void *ctx) { (void)ctx; return mem_alloc(n); }
static void pcre_free(void *p, void *ctx) { (void)ctx; mem_free(p); }

/* White_Space for the inside of a class; see the head of this file. */
#define SPACE_CLASS "\\t-\\r\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}" \
                    "\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"

static void translate(const char *re, struct str *out)
{
    bool in_class = false;

    for (; *re; re++) {
        if (re[0] == '\\' && re[1] == 's') {
            str_puts(out, in_class ? SPACE_CLASS : "[" SPACE_CLASS "]");
            re++;
        } else if (re[0] == '\\' && re[1] == 'S') {     /* outside classes only */
            str_puts(out, "[^" SPACE_CLASS "]");
            re++;
        } else if (re[0] == '\\' && re[1]) {
            str_append(out, re++, 2);
        } else {
            if (*re == '[' && !in_class)
                in_class = true;
            else if (*re == ']')
                in_class = false;
            str_putc(out, *re);
        }
    }
}

static int compile(struct splitter *s, unsigned stage, struct err *e)
{
    pcre2_compile_context *cc = pcre2_compile_context_create(s->general);
    struct str re;
    PCRE2_SIZE at = 0;
    int num = 0;

    str_init(&re, 0);
    translate(s->p->stages[stage].regex, &re);
    if (cc && str_ok(&re))
        s->code[stage] = pcre2_compile((PCRE2_SPTR)str_cstr(&re), re.len,
                                       PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &num, &at, cc);
    str_deinit(&re);
    pcre2_compile_context_free(cc);
    if (!s->code[stage] && num > 0 && num != PCRE2_ERROR_HEAP_FAILED)
        return err_set(e, WATT_EFORMAT, "tokenizer: stage %u of pre-tokenizer %s is no regular "
                       "expression at byte %zu (PCRE2 error %d)", stage, s->p->name, (size_t)at,
                       num);
    if (!s->code[stage])
        return tok_nomem(e);
    /* Without a JIT for this machine the interpreter does the same, slower. */
    (void)pcre2_jit_compile(s->code[stage], PCRE2_JIT_COMPLETE);
    return 0;
}

static bool stage_is_regex(const struct splitter *s, unsigned stage)
{
    const struct split_stage *st = &s->p->stages[stage];

    return st->kind == SPLIT_REGEX || (s->by_regex && st->regex);
}

static int splitter_make(struct splitter **out, const struct pretok *p, bool by_regex,
                         struct err *e)
{
    struct splitter *s = mem_calloc(1, sizeof *s);
    int rc = 0;

    if (!s)
        return tok_nomem(e);
    s->p = p;
    s->by_regex = by_regex;
    s->general = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (!s->general)
        rc = tok_nomem(e);
    for (unsigned i = 0; rc == 0 && i < p->n_stages; i++)
        if (stage_is_regex(s, i)) {
            s->n_regex++;
            rc = compile(s, i, e);
        }
    if (rc < 0) {
        splitter_close(s);
        return rc;
    }
    *out = s;
    return 0;
}

int splitter_open(struct splitter **out, const struct pretok *p, struct err *e)
{
    return splitter_make(out, p, false, e);
}

int splitter_open_regex(struct splitter **out, const struct pretok *p, struct err *e)
{
    return splitter_make(out, p, true, e);
}

void splitter_close(struct splitter *s)
{
    if (!s)
        return;
    for (unsigned i = 0; i < PRETOK_MAX_STAGES; i++)
        pcre2_code_free(s->code[i]);
    pcre2_general_context_free(s->general);
    mem_free(s);
}

/* Room for the JIT's backtracking: the patterns need little, whatever the text. */
#define JIT_STACK_MAX ((size_t)4 << 20)
/* Patterns from files may backtrack without end: one search gives up after this. */
#define MATCH_LIMIT 20000000u
#define HEAP_LIMIT_KIB 65536u

int split_scratch_open(struct split_scratch **out, const struct splitter *s, struct err *e)
{
    struct split_scratch *x = mem_calloc(1, sizeof *x);

    if (!x)
        return tok_nomem(e);
    str_init(&x->clean, TOKENIZER_MAX_TEXT_BYTES + 1);
    if (s->n_regex > 0) {
        x->match = pcre2_match_context_create(s->general);
        x->stack = pcre2_jit_stack_create(32768, JIT_STACK_MAX, s->general);
        if (!x->match || !x->stack)
            goto fail;
        pcre2_jit_stack_assign(x->match, NULL, x->stack);
        (void)pcre2_set_match_limit(x->match, MATCH_LIMIT);
        (void)pcre2_set_heap_limit(x->match, HEAP_LIMIT_KIB);
        for (unsigned i = 0; i < s->p->n_stages; i++)
            if (s->code[i] &&
                !(x->data[i] = pcre2_match_data_create_from_pattern(s->code[i], s->general)))
                goto fail;
    }
    *out = x;
    return 0;
fail:
    split_scratch_close(x);
    return tok_nomem(e);
}

void split_scratch_close(struct split_scratch *x)
{
    if (!x)
        return;
    for (unsigned i = 0; i < PRETOK_MAX_STAGES; i++)
        pcre2_match_data_free(x->data[i]);
    pcre2_jit_stack_free(x->stack);
    pcre2_match_context_free(x->match);
    str_deinit(&x->clean);
    mem_free(x);
}

struct split_run {
    const struct splitter *s;
    struct split_scratch  *x;
    const char            *text;    /* what the caller gave */
    const char            *clean;   /* the same length, valid UTF-8; text without regex */
    split_fn              *fn;
    void                  *ctx;
};

static int run_stage(const struct split_run *r, unsigned stage, size_t from, size_t to,
                     struct err *e);

static int pass_on(const struct split_run *r, unsigned stage, size_t from, size_t to,
                   struct err *e)
{
    if (from == to)
        return 0;
    if (stage + 1 == r->s->p->n_stages)
        return r->fn(r->ctx, r->text + from, to - from, e);
    return run_stage(r, stage + 1, from, to, e);
}

/* The subject is the piece alone: lookaheads and $ see its end, not the text's. */
static int run_regex(const struct split_run *r, unsigned stage, size_t from, size_t to,
                     struct err *e)
{
    const PCRE2_SPTR subject = (PCRE2_SPTR)r->clean + from;
    const size_t n = to - from;
    pcre2_match_data *md = r->x->data[stage];
    const PCRE2_SIZE *ov = pcre2_get_ovector_pointer(md);
    size_t done = 0, at = 0;
    int rc;

    while (at < n) {
        size_t start, end;

        rc = pcre2_match(r->s->code[stage], subject, n, at, PCRE2_NO_UTF_CHECK, md, r->x->match);
        if (rc == PCRE2_ERROR_NOMATCH)
            break;
        if (rc < 0)
            return err_set(e, WATT_ELIMIT,
                           "tokenizer: pre-tokenizer %s gave up on this text (PCRE2 error %d)",
                           r->s->p->name, rc);
        start = ov[0];
        end = ov[1];
        rc = pass_on(r, stage, from + done, from + start, e);
        if (rc == 0)
            rc = pass_on(r, stage, from + start, from + end, e);
        if (rc < 0)
            return rc;
        done = end;
        at = end;
        if (start == end) {     /* an empty match is a cut: step over one character */
            for (at++; at < n && (subject[at] & 0xC0) == 0x80; at++)
                ;
        }
    }
    return pass_on(r, stage, from + done, to, e);
}

static int run_stage(const struct split_run *r, unsigned stage, size_t from, size_t to,
                     struct err *e)
{
    const struct split_stage *st = &r->s->p->stages[stage];
    const char *s = r->text + from;
    const size_t n = to - from;
    size_t note = 0;

    if (stage_is_regex(r->s, stage))
        return run_regex(r, stage, from, to, e);
    for (size_t i = 0; i < n;) {
        const size_t end = split_next(st, s, i, n, &note);
        const int rc = pass_on(r, stage, from + i, from + end, e);

        if (rc < 0)
            return rc;
        i = end;
    }
    return 0;
}

/* A copy with every byte that is not UTF-8 made U+0001. */
static int make_clean(struct split_scratch *x, const char *text, size_t len, struct err *e)
{
    str_reset(&x->clean);
    str_append(&x->clean, text, len);
    if (!str_ok(&x->clean))
        return tok_nomem(e);
    for (size_t i = 0; i < len;) {
        uint32_t cp;
        bool ok;
        const size_t k = utf8_decode(text + i, len - i, &cp, &ok);

        if (!ok)
            x->clean.data[i] = '\x01';
        i += k;
    }
    return 0;
}

int splitter_run(const struct splitter *s, struct split_scratch *scratch, const char *text,
                 size_t len, split_fn *fn, void *ctx, struct err *e)
{
    struct split_run r = { s, scratch, text, text, fn, ctx };

    if (len == 0)
        return 0;
    if (s->n_regex > 0 && !utf8_valid(text, len)) {
        const int rc = make_clean(scratch, text, len, e);

        if (rc < 0)
            return rc;
        r.clean = scratch->clean.data;
    }
    return run_stage(&r, 0, 0, len, e);
}
