// The request of the page, for other programs.

const WRITERS = { curl, python, javascript };

/** A program that sends `body`; `origin` ends with a slash. `attention` is what is chosen of it; false without it. */
export function writeRequest(language, origin, body, { attention, key }) {
  const [path, sent] = attention ? ["attention", { ...body, level: "word", ...attention }] : ["summarize", body];
  return WRITERS[language](`${origin}${path}`, sent, key);
}

function curl(url, body, key) {
  const quoted = JSON.stringify(body, null, 1).replaceAll("'", String.raw`'\''`);
  const authorization = key ? `\n  -H "Authorization: Bearer $PRECIS_API_KEY" \\` : "";
  return `curl -sS ${url} \\${authorization}\n  -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
}

function python(url, body, key) {
  const authorization = key ? `, "Authorization": f"Bearer {os.environ['PRECIS_API_KEY']}"` : "";
  return `import json${key ? "\nimport os" : ""}
from urllib.request import Request, urlopen

body = ${inPython(body, "")}
headers = {"Content-Type": "application/json"${authorization}}
request = Request("${url}", json.dumps(body).encode(), headers)
with urlopen(request, timeout=60) as response:
    print(json.load(response)["summary"])`;
}

function javascript(url, body, key) {
  const authorization = key ? "Authorization: `Bearer ${process.env.PRECIS_API_KEY}`, " : "";
  return `const response = await fetch("${url}", {
  method: "POST",
  headers: { ${authorization}"Content-Type": "application/json" },
  body: JSON.stringify(${JSON.stringify(body, null, 2).replaceAll("\n", "\n  ")}),
});
if (!response.ok) throw new Error((await response.json()).detail);
console.log((await response.json()).summary);`;
}

/** A literal of Python. Strings of JSON are strings of Python, but for the names of constants. */
function inPython(value, indent) {
  if (value === true) return "True";
  if (value === false) return "False";
  if (typeof value !== "object" || Array.isArray(value)) return JSON.stringify(value);
  const lines = Object.entries(value).map(([name, each]) => `${indent}    "${name}": ${inPython(each, `${indent}    `)},\n`);
  return lines.length ? `{\n${lines.join("")}${indent}}` : "{}";
}
