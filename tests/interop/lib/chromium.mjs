// A headless Chromium for tests: Debian's, driven by playwright-core, which brings no browser of its own.
//
// Pages live on an HTTP server of 127.0.0.1 that answers every path with an empty page: a secure context, which
// WebCrypto asks for, and an origin that can be named.

import { createServer } from "node:http";
import { chromium } from "playwright-core";

const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  // Without these it looks for hosts of its maker at every start.
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/**
 * Starts a browser. `newPage(options)` opens a page of `origin`, with the options of playwright's `newContext`, such
 * as `{ ignoreHTTPSErrors: true }`; what goes wrong in a page ends this process. `close()` ends all of it.
 */
export async function startChromium({ executablePath = "/usr/bin/chromium", args = [] } = {}) {
  const server = createServer((_request, response) => {
    response.setHeader("Content-Type", "text/html").end("<!doctype html><title>test</title>");
  });
  await new Promise((resolve, reject) => server.on("error", reject).listen(0, "127.0.0.1", resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  const browser = await chromium.launch({ executablePath, headless: true, args: [...ARGUMENTS, ...args] });
  return {
    origin,
    async newPage(options = {}) {
      const context = await browser.newContext(options);
      const page = await context.newPage();
      page.on("pageerror", (error) => fail(error));
      await page.goto(`${origin}/`);
      return page;
    },
    async close() {
      await browser.close();
      server.close();
      server.closeAllConnections();
    },
  };
}

function fail(error) {
  console.error(error);
  process.exit(1);
}
