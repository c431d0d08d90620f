// @ts-check
/**
 * ContextPilot in OpenClaw: each prompt is rewritten on its way to the model, and nothing is stored.
 *
 * OpenClaw lets a plugin wrap the requests of those providers that no other plugin owns: the ones that
 * stand under `models.providers` of its openclaw.json. A context engine would see no turn before it is
 * over, and costs a part of the system prompt.
 *
 * @typedef {import("openclaw/plugin-sdk/core").OpenClawPluginApi} Api
 * @typedef {Parameters<Api["registerProvider"]>[0]} Provider
 * @typedef {NonNullable<ReturnType<NonNullable<Provider["wrapStreamFn"]>>>} Stream
 * @typedef {Parameters<Stream>[1]["messages"]} Messages
 * @typedef {Messages[number]} Message
 */

import { Chat } from "./chat.js";
import { Rewriter } from "./rewriter.js";

const ID = "contextpilot";
/** What other APIs take, OpenClaw patches only where nobody wraps their requests. */
const APIS = ["openai-completions", "anthropic-messages"];
/** So it is with the thinking of these. */
const PATCHED_MODELS = /deepseek|mimo/i;

export default {
  id: ID,
  name: "ContextPilot",
  description: "Replaces repeated readings in a session's prompts by references",

  /** @param {Api} api */
  register(api) {
    const rewriter = new Rewriter(/** @type {any} */ (api.pluginConfig ?? {}), (line) => api.logger.warn(line));
    api.registerProvider({
      id: ID,
      label: "ContextPilot",
      auth: [],
      hookAliases: Object.keys(api.config.models?.providers ?? {}),
      wrapStreamFn: ({ model, streamFn }) =>
        streamFn && model && isWrapped(model) ? rewriting(streamFn, rewriter) : undefined,
    });
    api.registerCommand({
      name: "contextpilot",
      description: "What ContextPilot saved in this session's prompts.",
      handler: () => ({ text: rewriter.status() }),
    });
  },
};

/** @param {{api: string, id: string}} model */
function isWrapped({ api, id }) {
  return APIS.includes(api) && !PATCHED_MODELS.test(id);
}

/**
 * @param {Stream} streamFn
 * @param {Rewriter} rewriter
 * @returns {Stream}
 */
function rewriting(streamFn, rewriter) {
  return async (model, context, options) => {
    const messages = await rewritten(context.messages, rewriter);
    return streamFn(model, { ...context, messages }, options);
  };
}

/**
 * Returns the messages as they may be sent; those given stay as they are.
 *
 * @param {Messages} given
 * @param {Rewriter} rewriter
 */
async function rewritten(given, rewriter) {
  try {
    const messages = [...given];
    const chat = chatOf(messages);
    const answer = await rewriter.rewrite(chat.messages);
    return answer && chat.apply(answer) ? messages : given;
  } catch (error) {
    rewriter.fail(error);
    return given;
  }
}

/**
 * Returns a chat whose places write into `messages`, a list of our own.
 *
 * @param {Messages} messages
 */
function chatOf(messages) {
  const chat = new Chat();
  messages.forEach((message, at) => {
    if (message.role === "user") {
      const texts = textsOf(message);
      chat.user(texts, (part) => (text) => (messages[at] = withText(messages[at], part, text)));
    }
    if (message.role === "assistant") {
      for (const part of message.content) {
        if (part.type === "text") chat.assistant(part.text);
        if (part.type === "toolCall") chat.call(part.id, part.name, part.arguments);
      }
    }
    if (message.role === "toolResult") {
      const texts = textsOf(message);
      const isWhole = texts.length === 1;
      const write = (/** @type {string} */ text) => (messages[at] = withText(messages[at], 0, text));
      chat.result(message.toolCallId, texts.join("\n"), isWhole ? write : undefined);
    }
  });
  return chat;
}

/**
 * @param {any} message
 * @returns {string[]}
 */
function textsOf({ content }) {
  if (typeof content === "string") return [content];
  return content.filter((/** @type {any} */ part) => part.type === "text").map((/** @type {any} */ part) => part.text);
}

/**
 * Returns a copy of a message in which the text of this number is another.
 *
 * @param {any} message
 * @param {number} number
 * @param {string} text
 * @returns {Message}
 */
function withText(message, number, text) {
  if (typeof message.content === "string") return { ...message, content: text };
  let seen = -1;
  const content = message.content.map((/** @type {any} */ part) => {
    if (part.type === "text") seen += 1;
    return part.type === "text" && seen === number ? { ...part, text } : part;
  });
  return { ...message, content };
}
