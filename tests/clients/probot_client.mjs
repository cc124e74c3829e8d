// A real Probot app, of whose settings only those are set that lead to the mirror. It gets a token of
// its installation, then processes an event: reads its configuration, a repository and a list, and
// writes a comment.
// Run as: GHE_HOST=… GHE_PROTOCOL=http APP_ID=1 PRIVATE_KEY=… node probot_client.mjs

import { createProbot } from "probot";

const probot = createProbot({ overrides: { logLevel: "fatal" } });
const report = {};
// Timers of its throttle do not prevent the end of a process; an app has a server for that.
const alive = setInterval(() => {}, 1000);

await probot.load((app) => {
  app.on("issues.opened", async (context) => {
    const { octokit } = context;
    report.config = await context.config("hello.yml");
    const { data } = await octokit.rest.repos.get(context.repo());
    report.repository = data.full_name;
    const list = octokit.rest.issues.listForRepo;
    const issues = await octokit.paginate(list, context.repo({ per_page: 20 }));
    report.numbers = issues.map((issue) => issue.number);
    const comment = await octokit.rest.issues.createComment(context.issue({ body: "Hello" }));
    report.comment = comment.data.id;
  });
});

await probot.receive({
  id: "1",
  name: "issues",
  payload: {
    action: "opened",
    issue: { number: 1 },
    repository: { name: "hello", full_name: "octo/hello", owner: { login: "octo" } },
    installation: { id: 1 },
  },
});
clearInterval(alive);
console.log(JSON.stringify(report));
