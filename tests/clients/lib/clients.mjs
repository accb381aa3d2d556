// The official clients for JavaScript against a server: clients.mjs URL. $NODE_FOLDER has them installed.
import assert from 'node:assert';
import { createRequire } from 'node:module';

const require = createRequire(process.env.NODE_FOLDER + '/');
const { default: OpenAI } = require('openai');
const { default: Anthropic } = require('@anthropic-ai/sdk');
const { Ollama } = require('ollama');
const url = process.argv[2];
const messages = [{ role: 'user', content: 'Hello' }];

async function openai() {
  const c = new OpenAI({ baseURL: url + '/v1', apiKey: 'k', maxRetries: 0 });
  assert.equal((await c.models.list()).data[0].id, 'tiny');
  const q = { model: 'tiny', messages, max_tokens: 12, temperature: 0 };
  const whole = await c.chat.completions.create(q);
  let text = '', usage;
  for await (const x of await c.chat.completions.create(
    { ...q, stream: true, stream_options: { include_usage: true } })) {
    text += x.choices[0]?.delta.content ?? '';
    usage = x.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.completion_tokens, whole.usage.completion_tokens);
  const schema = { type: 'object', properties: { ok: { type: 'boolean' } }, required: ['ok'],
    additionalProperties: false };
  const parsed = await c.chat.completions.create({ ...q, max_tokens: 200, response_format:
    { type: 'json_schema', json_schema: { name: 'n', schema } } });
  assert.equal(typeof JSON.parse(parsed.choices[0].message.content).ok, 'boolean');
  assert.ok((await c.completions.create({ model: 'tiny', prompt: 'x', max_tokens: 3 })).choices[0]);
  const r = await c.responses.create({ model: 'tiny', input: 'Hello', max_output_tokens: 9,
    temperature: 0 });
  let last;
  text = '';
  for await (const e of await c.responses.create({ model: 'tiny', input: 'Hello',
    max_output_tokens: 9, temperature: 0, stream: true })) {
    if (e.type === 'response.output_text.delta') text += e.delta;
    last = e;
  }
  assert.equal(text, r.output_text);
  assert.equal(last.response.status, r.status);
  assert.equal((await c.responses.retrieve(r.id)).output_text, r.output_text);
  await c.responses.delete(r.id);
  await assert.rejects(c.responses.retrieve(r.id), OpenAI.NotFoundError);
  await assert.rejects(c.chat.completions.create({ ...q, model: 'other' }), OpenAI.NotFoundError);
  await assert.rejects(c.chat.completions.create({ ...q, messages: [] }), OpenAI.BadRequestError);
  await assert.rejects(new OpenAI({ baseURL: url + '/v1', apiKey: 'w' }).models.list(),
    OpenAI.AuthenticationError);
  const stop = new AbortController();
  const stream = await c.chat.completions.create({ ...q, max_tokens: 3000, ignore_eos: true,
    stream: true }, { signal: stop.signal });
  for await (const x of stream) {
    if (x) { stop.abort(); break; }
  }
}

async function anthropic() {
  const c = new Anthropic({ baseURL: url, apiKey: 'k', maxRetries: 0 });
  const q = { model: 'tiny', max_tokens: 12, messages };
  const whole = await c.messages.create({ ...q, temperature: 0 });
  const stream = c.messages.stream({ ...q, temperature: 0 });
  const final = await stream.finalMessage();
  assert.deepEqual(final.content, whole.content);
  assert.equal(final.stop_reason, whole.stop_reason);
  assert.ok((await c.messages.countTokens({ model: 'tiny', messages })).input_tokens > 0);
  await assert.rejects(c.messages.create({ ...q, model: 'other' }), Anthropic.NotFoundError);
}

async function ollama() {
  const c = new Ollama({ host: url, headers: { Authorization: 'Bearer k' } });
  const q = { model: 'tiny', messages, options: { num_predict: 10, temperature: 0 } };
  const whole = await c.chat(q);
  let text = '';
  for await (const p of await c.chat({ ...q, stream: true })) text += p.message.content;
  assert.equal(text, whole.message.content);
  assert.ok((await c.generate({ model: 'tiny', prompt: 'x', options: { num_predict: 3 } })).done);
  assert.equal((await c.list()).models[0].name, 'tiny');
  await assert.rejects(c.chat({ ...q, model: 'other' }), /does not exist/);
}

await openai();
await anthropic();
await ollama();
