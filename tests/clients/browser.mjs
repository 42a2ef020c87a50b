// A browser's window for libraries that need one: jsdom, with Node's fetch under a browser's user agent.
import { JSDOM, VirtualConsole } from "jsdom";

const nodesFetch = globalThis.fetch;

export const AGENT =
  "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36";

export function open(url, referrer) {
  const options = { url, referrer, userAgent: AGENT, pretendToBeVisual: true, virtualConsole: new VirtualConsole() };
  const { window } = new JSDOM("<title>A page</title><p>Text", options);
  const pending = new Set();
  const sent = [];
  const origin = new URL(url).origin;
  window.fetch = (target, { headers, ...rest } = {}) => {
    const answer = nodesFetch(target, { ...rest, headers: { ...headers, "User-Agent": AGENT, Origin: origin } });
    sent.push(new URL(target).pathname);
    pending.add(answer);
    return answer.finally(() => pending.delete(answer));
  };
  window.ResizeObserver = class {
    observe() {}
  };
  window.document.hasFocus = () => true;
  for (const name of ["window", "document", "location", "navigator", "localStorage", "ResizeObserver", "history"]) {
    Object.defineProperty(globalThis, name, { value: window[name] ?? window, configurable: true });
  }
  Object.defineProperty(globalThis, "fetch", { value: window.fetch, configurable: true, writable: true });
  return {
    sent,
    leave() {
      Object.defineProperty(window.document, "visibilityState", { value: "hidden" });
      window.document.dispatchEvent(new window.Event("visibilitychange"));
    },
    async settle() {
      while (pending.size) await Promise.allSettled([...pending]);
    },
  };
}
