// Evaluates JSONata for moto's interpreter, which has none of its own: one JSON object a line in, one a line out. By the
// language's own implementation, which is another than the one that Daybook's interpreter uses.
const jsonata = require("jsonata");
const lines = require("readline").createInterface({ input: process.stdin });

let before = Promise.resolve();
lines.on("line", (line) => {
  before = before.then(async () => {
    let answer;
    try {
      const result = await jsonata(JSON.parse(line)).evaluate(null);
      answer = { result: result === undefined ? null : result };
    } catch (error) {
      answer = { error: String(error.message) };
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
  });
});
