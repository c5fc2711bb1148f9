// Requests to the server, and streams of events from it.

async function answer(response) {
  if (response.ok) return response.status === 204 ? null : response.json();
  let message = `the server answered ${response.status}`;
  try { message = (await response.json()).error || message; } catch { /* no JSON */ }
  throw new Error(plain(message));
}

// Messages name arguments in backticks, for Python; here they are words.
export const plain = (text) => text.replace(/`(\w+)=([^`]+)`/g, "$1 $2").replaceAll("`", "");

async function ask(path, options) {
  try {
    return await answer(await fetch(path, { credentials: "same-origin", ...options }));
  } catch (error) {
    if (error instanceof TypeError) throw new Error("The studio does not answer. Start it again with: ancestral studio");
    throw error;
  }
}

export const get = (path, signal) => ask(path, { signal });
export const remove = (path) => ask(path, { method: "DELETE" });
export const post = (path, body = {}, signal) => ask(path, { method: "POST", signal, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
export const send = (path, content, method = "PUT") => ask(path, { method, body: content });
export const encode = encodeURIComponent;

// Reads events from one response; handler: {name: (values) => ...}. Resolves when the stream ends.
export async function events(path, handlers, { body, signal } = {}) {
  const response = await fetch(path, body === undefined ? { signal } : { method: "POST", signal, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  if (!response.ok) await answer(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    text += value;
    let end;
    while ((end = text.indexOf("\n\n")) >= 0) {
      const block = text.slice(0, end);
      text = text.slice(end + 2);
      const name = /^event: (.*)$/m.exec(block)?.[1];
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (name === "error") throw new Error(plain(JSON.parse(data).error));
      if (name && handlers[name]) await handlers[name](JSON.parse(data));
    }
  }
}

// Follows a stream for as long as the page is open; begins again after the server returns.
export async function follow(path, handlers, signal) {
  while (!signal.aborted) {
    try {
      handlers.begin?.();
      await events(path, handlers, { signal });
    } catch (error) {
      if (signal.aborted) return;
      handlers.lost?.(error);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
  }
}
