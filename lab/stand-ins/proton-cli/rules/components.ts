export interface ComponentCase {
  type: string;
  component: string;
  method: 'POST' | 'PUT';
  old: Record<string, unknown> | null;
  new: Record<string, unknown>;
  dependencies?: Record<string, string> | null;
  other_components?: readonly string[];
}

export interface ComponentVerdict {
  verdict: 'accepted' | 'rejected';
  stage?: 'bind' | 'dependency' | 'check' | 'panic';
  http_status: number;
  error?: string;
  http_body?: string;
  completed_params?: Record<string, unknown>;
}

export function judgeComponent(input: ComponentCase): ComponentVerdict {
  return { verdict: 'accepted', http_status: 200, completed_params: input.new };
}
