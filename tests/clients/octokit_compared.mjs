// Octokit with its throttling and retry plugins in several situations; what it reports is JSON.
// Run as: node octokit_compared.mjs URL TOKEN SITUATION

import { Octokit } from "@octokit/rest";
import { retry } from "@octokit/plugin-retry";
import { throttling } from "@octokit/plugin-throttling";

const [url, token, situation] = process.argv.slice(2);
const silent = { debug() {}, info() {}, warn() {}, error() {} };
const hello = { owner: "octo", repo: "hello" };
const calls = [];

// notes what the plugin calls, and has it try once more, without waiting
const handler = (kind) => (retryAfter, options, _octokit, retryCount) => {
  calls.push({ kind, retryAfter, method: options.method, url: options.url, retryCount });
  return retryCount < 1;
};
const Throttled = Octokit.plugin(retry, throttling);
const octokit = new Throttled({
  baseUrl: url,
  auth: token,
  log: silent,
  retry: { retryAfterBaseValue: 0 },
  throttle: {
    retryAfterBaseValue: 0,
    onRateLimit: handler("primary"),
    onSecondaryRateLimit: handler("secondary"),
  },
});

async function outcome(request) {
  try {
    const { status, data } = await request;
    return { status, data };
  } catch (error) {
    if (error.status === undefined) throw error;
    const { status, message, response, request: sent } = error;
    return { error: error.name, status, message, data: response?.data, retries: sent.request.retryCount };
  }
}

async function read() {
  const first = await outcome(octokit.rest.repos.get(hello));
  const found = await outcome(octokit.rest.search.issuesAndPullRequests({ q: "sesame" }));
  const { viewer } = await octokit.graphql("{ viewer { login } }");
  return { first, found: found.data.total_count, login: viewer.login };
}

async function requestTwice() {
  const requests = [];
  for (let i = 0; i < 2; i++) requests.push(await outcome(octokit.rest.repos.get(hello)));
  requests.push(await outcome(octokit.rest.users.getByUsername({ username: "octo" })));
  return { requests, calls };
}

async function write() {
  const label = await outcome(octokit.rest.issues.createLabel({ ...hello, name: "a label" }));
  const labels = await octokit.paginate(octokit.rest.issues.listLabelsForRepo, hello);
  const { data: release } = await octokit.rest.repos.getRelease({ ...hello, release_id: 1 });
  const asset = await outcome(
    octokit.request(`POST ${release.upload_url}`, {
      name: "asset.bin",
      label: "An asset",
      headers: { "content-type": "application/octet-stream" },
      data: Buffer.alloc(100_000, 7),
    }),
  );
  const missing = await outcome(octokit.rest.issues.get({ ...hello, issue_number: 100_000 }));
  return {
    label,
    labels: labels.map((each) => each.name),
    asset: [asset.status, asset.data.id, asset.data.name],
    missing,
  };
}

// ten requests that are in flight at once, as a page of an application makes them
async function together() {
  const get = () => outcome(octokit.rest.repos.get(hello));
  return Promise.all(Array.from({ length: 10 }, get));
}

const situations = { read, requestTwice, write, together };
console.log(JSON.stringify(await situations[situation]()));
