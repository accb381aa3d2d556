/* pooling.h: how the rows of a text become one embedding.
 *
 * mean and cls are of Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084); last is the
 * last token's, as causal models are trained; rank is the score of a classification head on
 * one of these, as cross-encoders give it for a query and a document. */
#ifndef MODELS_POOLING_H
#define MODELS_POOLING_H

enum pooling {
    POOLING_FILE,       /* as the file says: key pooling_type; unset: mean of models that read
                         * both ways, else last */
    POOLING_NONE,       /* a row per token */
    POOLING_MEAN, POOLING_CLS, POOLING_LAST, POOLING_RANK
};

#endif
