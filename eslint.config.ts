import { builtinModules } from 'node:module';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';
import importX, { createNodeResolver } from 'eslint-plugin-import-x';

const builtins = [...builtinModules, ...builtinModules.map((name) => `node:${name}`)];

/** Rooms of the house and what each may import; arrows go one way: client → workflows → activity types; activities → hosts. */
const rooms: { room: string; forbidden: string[] }[] = [
  { room: 'src/plan', forbidden: ['workflows', 'activities', 'hosts', 'client'] },
  { room: 'src/workflows', forbidden: ['hosts', 'client'] },
  { room: 'src/activities', forbidden: ['workflows', 'client'] },
  { room: 'src/hosts', forbidden: ['plan', 'workflows', 'activities', 'client'] },
  { room: 'src/client', forbidden: [] },
];

export default defineConfig(
  { ignores: ['dist', 'coverage', 'node_modules', 'test-results'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { 'import-x': importX },
    // Named here: the plugin's default looks for a package called node and finds the interpreter's.
    settings: {
      'import-x/extensions': ['.ts', '.js'],
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
      'import-x/resolver-next': [createNodeResolver({ extensions: ['.ts', '.js', '.json'] })],
    },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/explicit-module-boundary-types': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true, allowBoolean: true }],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      eqeqeq: 'error',
      'object-shorthand': 'error',
      'import-x/no-cycle': 'error',
      'import-x/no-default-export': 'error',
    },
  },
  ...rooms.map(({ room, forbidden }) => ({
    files: [`${room}/**/*.ts`],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            { group: ['**/lab/**', '**/test/**', '**/bench/**'], message: 'product code never imports proof' },
            ...forbidden.map((other) => ({ group: [`**/${other}/**`], message: `${room} may not know ${other}` })),
          ],
        },
      ] as ['error', object],
    },
  })),
  {
    files: ['src/workflows/**/*.ts'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          paths: builtins.map((name) => ({ name, message: 'workflow code is deterministic: no Node built-ins' })),
          patterns: [
            { group: ['**/hosts/**', '**/client/**'], message: 'workflows know the plan and activity types only' },
            { group: ['**/activities/**'], allowTypeImports: true, message: 'import activities as types only' },
          ],
        },
      ],
    },
  },
  { files: ['*.config.ts'], rules: { 'import-x/no-default-export': 'off' } },
  {
    files: ['test/**/*.ts'],
    // Activities are closures under the names of an interface: none has a `this`.
    rules: { '@typescript-eslint/no-non-null-assertion': 'off', '@typescript-eslint/unbound-method': 'off' },
  },
);
