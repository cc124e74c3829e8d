// Replays exchanges recorded from api.github.com, by @octokit/fixtures-server, on a free port.
// Prints its URL, and ends with its standard input.

import express from "express";
import fixtures from "@octokit/fixtures";
import fixturesServer from "@octokit/fixtures-server";
import DEFAULTS from "@octokit/fixtures-server/lib/defaults.js";

// requests without a recording are sent to no server
fixtures.nock.disableNetConnect();

// a recorded Accept-Encoding would have to be unchanged; a mirror chooses its own
for (const exchange of Object.values(DEFAULTS.fixtures).flat()) {
  delete exchange.reqheaders["accept-encoding"];
}

const app = express();
const server = app.listen(0, "127.0.0.1", () => {
  const fixturesUrl = `http://127.0.0.1:${server.address().port}`;
  app.use(fixturesServer({ fixturesUrl, logLevel: "silent", ttl: 600_000 }));
  console.log(fixturesUrl);
});
process.stdin.on("end", () => process.exit()).resume();
