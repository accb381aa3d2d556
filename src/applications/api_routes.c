/* api_routes.c: the surfaces. A new one is a file and a line here. */
#include "applications/api.h"

const struct api_route *const api_routes[] = {
    api_anthropic_routes,
    api_embed_routes,
    api_llama_routes,
    api_metrics_routes,
    api_manage_routes,
    api_ollama_routes,
    api_openai_routes,
    api_openapi_routes,
    api_ops_routes,
    api_responses_routes,
    NULL
};

const struct api_shape api_shapes[] = {
    { "/v1/messages", api_anthropic_error },
    { "/api/", api_ollama_error },
    { 0 }
};
