// The HTTP side of the page: JSON in, the envelope's `data` out, every failure an ApiError.

// Longer than any answer of a healthy server takes, short enough that a form does not hang.
const REQUEST_TIMEOUT_MS = 30_000;

export class ApiError extends Error {
  constructor(status, message, issues = []) {
    super(message);
    this.status = status;
    this.issues = issues;
  }
}

export async function request(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0, "the server can't be reached");
  }
  const answer = await response.json().catch(() => null);
  if (response.ok && answer?.success === true) return answer.data;
  throw new ApiError(
    response.status,
    answer?.error ?? `the server answered ${response.status}`,
    Array.isArray(answer?.issues) ? answer.issues : [],
  );
}

// What went wrong, in words for the person who filled in the form.
export function explain(error) {
  const issues = (error.issues ?? []).map(({ path, message }) =>
    path?.length ? `${path.join(".")}: ${message}` : message,
  );
  return issues.length ? issues.join("; ") : error.message;
}

const segment = encodeURIComponent;

export const paths = {
  towns: "/api/towns",
  userTowns: (user) => `/api/users/${segment(user)}/towns`,
  userRigs: (user) => `/api/users/${segment(user)}/rigs`,
  townRigs: (user, town) => `/api/users/${segment(user)}/towns/${segment(town)}/rigs`,
  rig: (town, rig) => `/api/towns/${segment(town)}/rigs/${segment(rig)}`,
  reviews: (town, rig) => `/api/towns/${segment(town)}/rigs/${segment(rig)}/review-queue`,
  convoys: (town) => `/api/towns/${segment(town)}/convoys`,
  mayorMessage: (town) => `/api/towns/${segment(town)}/mayor/message`,
  town: (town) => `/api/towns/${segment(town)}`,
  asks: (town) => `/api/towns/${segment(town)}/asks`,
  askReply: (town, ask) => `/api/towns/${segment(town)}/asks/${segment(ask)}/reply`,
  escalations: (town) => `/api/towns/${segment(town)}/escalations`,
  acknowledge: (town, escalation) =>
    `/api/towns/${segment(town)}/escalations/${segment(escalation)}/acknowledge`,
  mayorStatus: (town) => `/api/towns/${segment(town)}/mayor/status`,
  socket: (town) => `/api/towns/${segment(town)}/ws`,
};
