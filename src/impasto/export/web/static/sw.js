// The service worker: the page works offline after the first load.
//
// It also sends the two headers that allow threads, so a host that cannot send them gets threads from the second visit
// on. Files that only WebGPU needs are kept once they have been requested.
importScripts("files.js");
const CACHE = `impasto-${self.SITE.version}`;
const HOME = new URL("./", self.location).href;
const LATER = (name) => name.includes("jspi");
const fresh = (name) => new Request(HOME + name, { cache: "no-cache" });

self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(["", ...self.SITE.files.filter((name) => !LATER(name))].map(fresh));
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) if (name.startsWith("impasto-") && name !== CACHE) await caches.delete(name);
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const url = event.request.url.split(/[?#]/)[0];
  if (event.request.method === "GET" && url.startsWith(HOME)) event.respondWith(answer(event.request, url));
});

async function answer(request, url) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(url);
  if (kept) return isolated(kept);
  const found = await fetch(request);
  if (found.ok && self.SITE.files.includes(url.slice(HOME.length))) await cache.put(url, found.clone());
  return isolated(found);
}

function isolated(response) {
  if (response.status === 0) return response;
  const headers = new Headers(response.headers);
  headers.set("Cross-Origin-Opener-Policy", "same-origin");
  headers.set("Cross-Origin-Embedder-Policy", "require-corp");
  return new Response(response.body, { status: response.status, statusText: response.statusText, headers });
}
