// Calls of functions through the official clients for JavaScript: tools.mjs URL, of a server of the model that ships.
import assert from 'node:assert';
import { createRequire } from 'node:module';

const require = createRequire(process.env.NODE_FOLDER + '/');
const { default: OpenAI } = require('openai');
const { default: Anthropic } = require('@anthropic-ai/sdk');
const { Ollama } = require('ollama');
const url = process.argv[2];
const SUM = 'Can you tell me what 8380 minus 896 is?', TEXT = '8380 - 896';
const messages = [{ role: 'user', content: SUM }];
const schema = (field) => ({ type: 'object', properties: { [field]: { type: 'string' } }, required: [field] });
const functions = [['calculator', 'Evaluates an arithmetic expression.', 'expression'],
  ['search', 'Searches for texts about something.', 'query']];
const tools = functions.map(([name, description, field]) =>
  ({ type: 'function', function: { name, description, parameters: schema(field) } }));

async function chat(c) {
  const q = { model: 'pilot', messages, tools, temperature: 0, max_tokens: 120 };
  const whole = await c.chat.completions.create(q);
  const call = whole.choices[0].message.tool_calls[0];
  assert.equal(whole.choices[0].finish_reason, 'tool_calls');
  assert.deepEqual(JSON.parse(call.function.arguments), { expression: TEXT });
  const final = await c.chat.completions.stream(q).finalChatCompletion();
  assert.deepEqual(final.choices[0].message.tool_calls[0].function.arguments, call.function.arguments);
  for (const name of ['calculator', 'search']) {
    const r = await c.chat.completions.create({ ...q, tool_choice: { type: 'function', function: { name } } });
    assert.equal(r.choices[0].message.tool_calls[0].function.name, name);
  }
  const none = await c.chat.completions.create({ ...q, tool_choice: 'none' });
  assert.ok(!none.choices[0].message.tool_calls);
  const asked = [];
  const tool = { type: 'function', function: { name: 'calculator', description: functions[0][1],
    parameters: schema('expression'), parse: JSON.parse,
    function: ({ expression }) => { asked.push(expression); return '7484'; } } };
  for (const stream of [false, true]) {
    const loop = c.chat.completions.runTools({ ...q, tools: [tool], stream });
    assert.match(await loop.finalContent(), /7484/);
  }
  assert.deepEqual(asked, [TEXT, TEXT]);
  await assert.rejects(c.chat.completions.create({ ...q, tool_choice: { type: 'function',
    function: { name: 'other' } } }), OpenAI.BadRequestError);
}

async function responses(c) {
  const q = { model: 'pilot', input: SUM, temperature: 0, max_output_tokens: 120,
    tools: tools.map((t) => ({ type: 'function', strict: false, ...t.function })) };
  const r = await c.responses.create(q);
  const call = r.output[0];
  assert.equal(call.type, 'function_call');
  assert.deepEqual(JSON.parse(call.arguments), { expression: TEXT });
  let text = '';
  for await (const e of await c.responses.create({ ...q, stream: true })) {
    if (e.type === 'response.function_call_arguments.delta') text += e.delta;
    if (e.type === 'response.function_call_arguments.done') assert.equal(e.arguments, text);
  }
  assert.equal(text, call.arguments);
  const result = { type: 'function_call_output', call_id: call.call_id, output: '7484' };
  const more = await c.responses.create({ ...q, input: [result], previous_response_id: r.id });
  assert.match(more.output_text, /7484/);
  const streamed = await c.responses.stream(q).finalResponse();
  assert.equal(streamed.output[0].arguments, call.arguments);
}

async function anthropic() {
  const c = new Anthropic({ baseURL: url, apiKey: 'k', maxRetries: 0 });
  const q = { model: 'pilot', max_tokens: 120, messages, temperature: 0,
    tools: functions.map(([name, description, field]) => ({ name, description, input_schema: schema(field) })) };
  const r = await c.messages.create(q);
  const call = r.content.at(-1);
  assert.equal(r.stop_reason, 'tool_use');
  assert.deepEqual(call.input, { expression: TEXT });
  let snapshot;
  const stream = c.messages.stream(q).on('inputJson', (_, s) => { snapshot = s; });
  const final = await stream.finalMessage();
  assert.deepEqual(final.content.at(-1).input, call.input);
  assert.deepEqual({ ...snapshot }, call.input);
  const back = await c.messages.create({ ...q, messages: [...messages, { role: 'assistant', content: r.content },
    { role: 'user', content: [{ type: 'tool_result', tool_use_id: call.id, content: '7484' }] }] });
  assert.match(back.content[0].text, /7484/);
  const named = await c.messages.create({ ...q, tool_choice: { type: 'tool', name: 'search' } });
  assert.equal(named.content.at(-1).name, 'search');
  await assert.rejects(c.messages.create({ ...q, tool_choice: { type: 'tool', name: 'other' } }),
    Anthropic.BadRequestError);
}

async function ollama() {
  const c = new Ollama({ host: url });
  const q = { model: 'pilot', messages, tools, options: { num_predict: 120, temperature: 0, repeat_penalty: 1 } };
  const r = await c.chat(q);
  assert.deepEqual(r.message.tool_calls[0].function, { name: 'calculator', arguments: { expression: TEXT } });
  const calls = [];
  for await (const p of await c.chat({ ...q, stream: true })) calls.push(...(p.message.tool_calls ?? []));
  assert.deepEqual(calls.map((x) => x.function), r.message.tool_calls.map((x) => x.function));
  const back = await c.chat({ ...q, messages: [...messages, r.message,
    { role: 'tool', tool_name: 'calculator', content: '7484' }] });
  assert.match(back.message.content, /7484/);
}

const client = new OpenAI({ baseURL: url + '/v1', apiKey: 'k', maxRetries: 0 });
await chat(client);
await responses(client);
await anthropic();
await ollama();
