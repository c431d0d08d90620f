// @ts-check
/**
 * ContextPilot in OpenCode: each prompt is rewritten on its way to the model, and nothing is stored.
 *
 * @typedef {import("@opencode-ai/plugin").Hooks} Hooks
 * @typedef {Parameters<NonNullable<Hooks["experimental.chat.messages.transform"]>>[1]} Output
 * @typedef {Output["messages"][number]} Message
 */

import { Chat } from "./chat.js";
import { Rewriter } from "./rewriter.js";

/** What OpenCode sends in place of an old result that it has cleared. */
const CLEARED = "[Old tool result content cleared]";

/** @type {import("@opencode-ai/plugin").Plugin} */
export const ContextPilot = async ({ client }, options) => {
  const rewriter = new Rewriter(options ?? {}, (line) => tell(client, line));
  /** Sessions whose next messages are summarised: their results will be cut. */
  const compacting = new Set();
  return {
    tool: {
      contextpilot_status: {
        description: "What ContextPilot saved in this session's prompts.",
        args: {},
        execute: async () => rewriter.status(),
      },
    },
    "experimental.session.compacting": async ({ sessionID }) => {
      compacting.add(sessionID);
    },
    "experimental.chat.messages.transform": async (_, { messages }) => {
      if (compacting.delete(messages[0]?.info.sessionID)) return;
      try {
        const chat = chatOf(messages);
        const told = await rewriter.rewrite(chat.messages);
        if (told) chat.apply(told);
      } catch (error) {
        rewriter.fail(error);
      }
    },
  };
};

/** @param {Message[]} messages */
function chatOf(messages) {
  const chat = new Chat();
  for (const message of messages) {
    if (message.info.role === "user") addUser(chat, message.parts);
    else addAssistant(chat, message.parts);
  }
  return chat;
}

/**
 * @param {Chat} chat
 * @param {Message["parts"]} parts
 */
function addUser(chat, parts) {
  const said = parts.flatMap((part, at) => (part.type === "text" && !part.ignored ? [{ part, at }] : []));
  const texts = said.map(({ part }) => part.text);
  chat.user(texts, (number) => (text) => {
    const { part, at } = said[number];
    parts[at] = { ...part, text };
  });
}

/**
 * @param {Chat} chat
 * @param {Message["parts"]} parts
 */
function addAssistant(chat, parts) {
  parts.forEach((part, at) => {
    if (part.type === "text") chat.assistant(part.text);
    if (part.type !== "tool") return;
    const { state, callID } = part;
    if (state.status === "error") {
      chat.call(callID, part.tool, state.input);
      chat.result(callID, state.error);
    }
    if (state.status !== "completed") return;
    chat.call(callID, part.tool, state.input);
    if (state.time.compacted) chat.result(callID, CLEARED);
    else chat.result(callID, state.output, (output) => (parts[at] = { ...part, state: { ...state, output } }));
  });
}

/**
 * @param {Parameters<import("@opencode-ai/plugin").Plugin>[0]["client"]} client
 * @param {string} message
 */
async function tell(client, message) {
  await client.app.log({ body: { service: "contextpilot", level: "warn", message } });
  await client.tui.showToast({ body: { message, variant: "warning" } });
}
