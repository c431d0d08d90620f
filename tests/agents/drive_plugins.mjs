// Calls a plugin as its host does: prompts come in as JSON, and go out as the plugin left them.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { host, path, options, prompts, compacting, model } = JSON.parse(readFileSync(0, "utf8"));
const module = await import(pathToFileURL(path).href);
const lines = [];
const out = [];
const before = JSON.stringify(prompts);
let status;

if (host === "opencode") {
  const client = {
    app: { log: async ({ body }) => lines.push(body.message) },
    tui: { showToast: async () => { throw new Error("there is no screen"); } },
  };
  const exported = Object.values(module);
  if (exported.length !== 1) throw new Error("OpenCode takes every export for a plugin");
  const hooks = await exported[0]({ client }, options);
  for (const messages of prompts) {
    if (compacting) {
      const { sessionID } = messages[0].info;
      await hooks["experimental.session.compacting"]({ sessionID }, { context: [] });
    }
    await hooks["experimental.chat.messages.transform"]({}, { messages });
    out.push(messages);
  }
  status = await hooks.tool.contextpilot_status.execute({}, {});
} else {
  let provider, command;
  module.default.register({
    pluginConfig: options,
    config: { models: { providers: { mine: {}, other: {} } } },
    logger: { warn: (line) => lines.push(line) },
    registerProvider: (made) => (provider = made),
    registerCommand: (made) => (command = made),
  });
  if (String(provider.hookAliases) !== "mine,other") throw new Error("it wraps other providers");
  const sent = (_, context) => out.push(context.messages);
  const given = { api: "openai-completions", id: "m", ...model };
  const stream = provider.wrapStreamFn({ model: given, streamFn: sent }) ?? sent;
  for (const messages of prompts) await stream(given, { systemPrompt: "Be brief.", messages }, {});
  if (JSON.stringify(prompts) !== before) throw new Error("the host's own messages were changed");
  status = command.handler().text;
}
console.log(JSON.stringify({ out, lines, status }));
process.exit(0);
