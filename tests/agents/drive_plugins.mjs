// Calls a plugin as its host does: prompts come in as JSON, and go out as the plugin left them.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { host, path, options, prompts, compacting } = JSON.parse(readFileSync(0, "utf8"));
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
  let factory, command;
  module.default.register({
    pluginConfig: options,
    logger: { warn: (line) => lines.push(line) },
    registerContextEngine: (id, made) => (factory = made),
    registerCommand: (made) => (command = made),
  });
  const engine = factory({});
  for (const messages of prompts) out.push((await engine.assemble({ sessionId: "s", messages })).messages);
  if (JSON.stringify(prompts) !== before) throw new Error("the host's own messages were changed");
  status = command.handler().text;
}
console.log(JSON.stringify({ out, lines, status }));
process.exit(0);
