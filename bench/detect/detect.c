/* The integer rule of decide/{fold,agree,judge}.py, for one provider seen by a few vantages, at full speed.
 *
 * usage: detect TABLE COMMAND ARGUMENTS...
 *   delay SHARE_PPM RUNS SEED        rounds to the alarm from a fresh start: mean, p99, largest
 *   alarms SHARE_PPM STEPS SEED      alarms in so many literal rounds, started anew after each
 *   lie HOW SHARE_PPM ROUNDS SEED OUT  vantage 0 lies; moves of the whole rule; OUT 1 starts it out
 *   trace                            rounds from stdin, one character '0' (good) or '1' a vantage; states to stdout
 *   chain                            exact mean rounds to a false alarm of one stream, by the joint chain
 * TABLE holds "name value..." lines written by bench/detect/table.py from the Python table itself.
 * tests/decide/test_judge.py compares `trace` with the Python rule.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WAYS_MAX = 8, VANTAGES_MAX = 16 };

static struct {
    int64_t vantages, kept, ways, healthy_ppm, score_max;
    int64_t rise[WAYS_MAX], fall[WAYS_MAX], limit[WAYS_MAX];
    int64_t up_limit, up_max, hold, hold_max, relapse_window, probation_start, probation_step;
} table;

static void read_table(const char *path) {
    FILE *file = fopen(path, "r");
    char line[512];
    if (!file) { perror(path); exit(2); }
    while (fgets(line, sizeof line, file)) {
        char *name = strtok(line, " \n");
        int64_t values[WAYS_MAX], count = 0;
        for (char *word; count < WAYS_MAX && (word = strtok(NULL, " \n"));) values[count++] = atoll(word);
        if (!name || !count) continue;
#define ONE(field) if (!strcmp(name, #field)) table.field = values[0]
#define ALL(field) if (!strcmp(name, #field)) memcpy(table.field, values, sizeof(int64_t) * count)
        ONE(vantages); ONE(kept); ONE(ways); ONE(healthy_ppm); ONE(score_max); ONE(up_limit); ONE(up_max); ONE(hold);
        ONE(hold_max); ONE(relapse_window); ONE(probation_start); ONE(probation_step);
        ALL(rise); ALL(fall); ALL(limit);
    }
    fclose(file);
}

/* ---- xoroshiro128+, seeded by splitmix64 (Blackman and Vigna) ---- */
static uint64_t seed_a, seed_b;
static uint64_t splitmix(uint64_t *x) {
    uint64_t z = (*x += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
static void seed(uint64_t x) { seed_a = splitmix(&x); seed_b = splitmix(&x); }
static inline uint64_t turn(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
static inline uint64_t draw(void) {
    uint64_t a = seed_a, b = seed_b, sum = a + b;
    b ^= a;
    seed_a = turn(a, 24) ^ b ^ (b << 16);
    seed_b = turn(b, 37);
    return sum;
}
static inline int fails(int64_t ppm) {
    return ppm >= 1000000 ? 1 : (int64_t)(((draw() >> 32) * 1000000u) >> 32) < ppm;
}

/* ---- the rule ---- */
static struct {
    int64_t down[VANTAGES_MAX][WAYS_MAX], up[VANTAGES_MAX];
    int is_out, is_ever_out;
    int64_t since, hold_until, relapses, probation, clean_since;
} rule;

static inline void fold(int vantage, int failed) {
    int64_t *down = rule.down[vantage];
    for (int way = 0; way < table.ways; way++) {
        int64_t score = down[way] + (failed ? table.rise[way] : -table.fall[way]);
        down[way] = score < 0 ? 0 : score > table.score_max ? table.score_max : score;
    }
    if (rule.is_out) {
        int64_t up = rule.up[vantage] + (failed ? -table.rise[0] : table.fall[0]);
        rule.up[vantage] = up < 0 ? 0 : up > table.up_max ? table.up_max : up;
    }
}

static inline int64_t lowest(const int64_t *scores, int64_t stride) {
    int64_t left[VANTAGES_MAX], total = 0;
    for (int v = 0; v < table.vantages; v++) total += left[v] = scores[v * stride];
    for (int64_t out = table.vantages - table.kept; out > 0; out--) {
        int most = 0;
        for (int v = 1; v < table.vantages; v++) if (left[v] > left[most]) most = v;
        total -= left[most];
        left[most] = INT64_MIN / 2;
    }
    return total;
}

static inline int64_t progress_bp(void) {
    int64_t most = 0;
    for (int way = 0; way < table.ways; way++) {
        int64_t bp = lowest(&rule.down[0][way], WAYS_MAX) * 10000 / table.limit[way];
        if (bp > most) most = bp;
    }
    return most;
}

static int64_t hold_rounds(void) {
    int64_t hold = table.hold << (rule.relapses < 32 ? rule.relapses : 32);
    return hold < table.hold_max ? hold : table.hold_max;
}

static void judge(int64_t round) {
    int64_t progress = progress_bp();
    if (rule.is_out) {
        int last = (int)table.ways - 1;
        if (lowest(rule.up, 1) <= 0) {
            rule.hold_until = round + hold_rounds();
        } else if (round >= rule.hold_until && lowest(rule.up, 1) >= table.up_limit
            && 4 * lowest(&rule.down[0][last], WAYS_MAX) < table.limit[last]) {
            rule.is_out = 0;
            rule.since = rule.clean_since = round;
            rule.probation = table.probation_start;
            memset(rule.down, 0, sizeof rule.down);
        }
    } else if (progress >= 10000) {
        int is_relapse = rule.is_ever_out && (rule.probation || round - rule.since <= table.relapse_window);
        rule.relapses = is_relapse ? rule.relapses + 1 : 0;
        rule.hold_until = round + hold_rounds();
        rule.is_out = rule.is_ever_out = 1;
        rule.since = round;
        rule.probation = 0;
        memset(rule.up, 0, sizeof rule.up);
    } else if (rule.probation) {
        if (progress >= 2500) rule.clean_since = round;
        else if (round - rule.clean_since >= table.probation_step) {
            rule.probation = rule.probation * 2 >= 10000 ? 0 : rule.probation * 2;
            rule.clean_since = round;
        }
    }
}

/* ---- commands ---- */
static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void delay(int64_t ppm, int64_t runs) {
    int64_t *taken = malloc(sizeof *taken * runs), total = 0;
    for (int64_t run = 0; run < runs; run++) {
        int64_t rounds = 0;
        memset(&rule, 0, sizeof rule);
        do {
            rounds++;
            for (int v = 0; v < table.vantages; v++) fold(v, fails(ppm));
        } while (progress_bp() < 10000);
        total += taken[run] = rounds;
    }
    qsort(taken, runs, sizeof *taken, by_size);
    printf("%.4f %lld %lld\n", (double)total / runs, (long long)taken[runs * 99 / 100], (long long)taken[runs - 1]);
    free(taken);
}

static void alarms(int64_t ppm, int64_t steps) {
    int64_t count = 0;
    memset(&rule, 0, sizeof rule);
    for (int64_t step = 0; step < steps; step++) {
        int is_news = 0;
        for (int v = 0; v < table.vantages; v++) {
            int failed = fails(ppm);
            is_news |= failed;
            fold(v, failed);
        }
        if (is_news && progress_bp() >= 10000) {
            count++;
            memset(&rule, 0, sizeof rule);
        }
    }
    printf("%lld\n", (long long)count);
}

static int lie(const char *how, int64_t round, int64_t ppm) {
    if (!strcmp(how, "fails")) return 1;
    if (!strcmp(how, "good")) return 0;
    if (!strcmp(how, "coin")) return fails(500000);
    if (!strcmp(how, "swings")) return round / 100 % 2 == 0;
    if (!strcmp(how, "contrary")) return !fails(ppm);
    return fails(ppm);
}

static void lies(const char *how, int64_t ppm, int64_t rounds, int is_out) {
    int64_t outs = 0, backs = 0, first_out = -1, first_back = -1;
    memset(&rule, 0, sizeof rule);
    rule.is_out = rule.is_ever_out = is_out;
    for (int64_t round = 1; round <= rounds; round++) {
        int was_out = rule.is_out;
        fold(0, lie(how, round, ppm));
        for (int v = 1; v < table.vantages; v++) fold(v, fails(ppm));
        judge(round);
        if (rule.is_out && !was_out && ++outs == 1) first_out = round;
        if (!rule.is_out && was_out && ++backs == 1) first_back = round;
    }
    printf("%lld %lld %lld %lld\n", (long long)outs, (long long)backs, (long long)first_out, (long long)first_back);
}

static void trace(void) {
    char line[64];
    memset(&rule, 0, sizeof rule);
    for (int64_t round = 1; fgets(line, sizeof line, stdin); round++) {
        for (int v = 0; v < table.vantages; v++) fold(v, line[v] == '1');
        judge(round);
        printf("%d %lld", rule.is_out, (long long)(rule.is_out ? lowest(rule.up, 1) : progress_bp()));
        for (int way = 0; way < table.ways; way++) printf(" %lld", (long long)rule.down[0][way]);
        printf(" %lld %lld\n", (long long)rule.probation, (long long)rule.relapses);
    }
}

/* ---- the exact joint chain of one stream: states are the tuples of scores that can be reached below all limits ---- */
typedef struct { int64_t score[WAYS_MAX]; } State;
static State *states;
static int64_t *slots, slot_count, state_count, state_room;

static int64_t place(const State *state) {
    uint64_t hash = 1469598103934665603u;
    for (int way = 0; way < table.ways; way++) hash = (hash ^ (uint64_t)state->score[way]) * 1099511628211u;
    for (int64_t at = (int64_t)(hash % (uint64_t)slot_count);; at = (at + 1) % slot_count) {
        if (slots[at] < 0) {
            if (state_count == state_room) { fputs("too many states\n", stderr); exit(2); }
            states[state_count] = *state;
            return slots[at] = state_count++;
        }
        if (!memcmp(&states[slots[at]], state, sizeof *state)) return slots[at];
    }
}

static int64_t next(int64_t from, int failed) {
    State to = {{0}};
    for (int way = 0; way < table.ways; way++) {
        int64_t score = states[from].score[way] + (failed ? table.rise[way] : -table.fall[way]);
        if (score >= table.limit[way]) return -1;
        to.score[way] = score < 0 ? 0 : score;
    }
    return place(&to);
}

static void chain(void) {
    state_room = 4000000, slot_count = 8000009;
    states = calloc(state_room, sizeof *states);
    slots = malloc(slot_count * sizeof *slots);
    int64_t *good = malloc(state_room * sizeof *good), *bad = malloc(state_room * sizeof *bad);
    memset(slots, -1, slot_count * sizeof *slots);
    State zero = {{0}};
    place(&zero);
    for (int64_t at = 0; at < state_count; at++) { good[at] = next(at, 0); bad[at] = next(at, 1); }
    double p = table.healthy_ppm / 1e6, *now = calloc(state_count, sizeof *now), *then = calloc(state_count, sizeof *then);
    double alive = 1, lived = 0, rate = 0, last = -1;
    now[0] = 1;
    for (int64_t step = 0;; step++) {
        double lost = 0;
        lived += alive;
        memset(then, 0, state_count * sizeof *then);
        for (int64_t at = 0; at < state_count; at++) {
            if (now[at] == 0) continue;
            then[good[at]] += now[at] * (1 - p);
            if (bad[at] < 0) lost += now[at] * p; else then[bad[at]] += now[at] * p;
        }
        rate = lost / alive;
        alive -= lost;
        double *swap = now; now = then; then = swap;
        /* From here on the loss is geometric: the rest of the mean is alive / rate. */
        if (step > 2000 && fabs(rate - last) <= 1e-12 * rate) break;
        last = rate;
        if (step > 200000) { fputs("no convergence\n", stderr); exit(2); }
    }
    printf("%.6f %lld\n", lived + alive / rate, (long long)state_count);
}

int main(int count, char **words) {
    if (count < 3) return 2;
    read_table(words[1]);
    const char *command = words[2];
    int64_t number[8] = {0};
    for (int at = 3; at < count && at < 11; at++) number[at - 3] = atoll(words[at]);
    if (!strcmp(command, "delay")) { seed(number[2]); delay(number[0], number[1]); }
    else if (!strcmp(command, "alarms")) { seed(number[2]); alarms(number[0], number[1]); }
    else if (!strcmp(command, "lie")) { seed(number[3]); lies(words[3], number[1], number[2], (int)number[4]); }
    else if (!strcmp(command, "trace")) trace();
    else if (!strcmp(command, "chain")) chain();
    else return 2;
    return 0;
}
