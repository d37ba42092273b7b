// The models of simpy_models.py and remote.py with the fewest events, for SimGrid.
//
//     simgrid calls CLIENTS CALLS NS...
//     simgrid remote CLIENTS CALLS PROCESSORS DELAY CLIENT SERVER RECEIVE
//
// Times are in ns. NS are the stretches of a call: outside a lock and under it, in turn. Prints the
// virtual time at the end in ns, and the processor time of the run in seconds.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <functional>
#include <queue>
#include <string>
#include <vector>

#include <simgrid/s4u.hpp>
#include <xbt/log.h>

namespace sg = simgrid::s4u;
using Free = std::priority_queue<double, std::vector<double>, std::greater<double>>;  // when processors are

static double ended = 0;  // the latest time at which a client did

static void call_locally(int calls, const std::vector<double>& stretches, double* free)
{
    double due = 0;
    for (int call = 0; call < calls; call++) {
        if (free == nullptr) {
            double whole = 0;
            for (double one : stretches)
                whole += one;
            sg::this_actor::sleep_for(whole);
            due += whole;
            continue;
        }
        size_t at = 0;
        for (; at + 1 < stretches.size(); at += 2) {
            due += stretches[at];
            sg::this_actor::sleep_until(due);
            due = *free = std::max(due, *free) + stretches[at + 1];
        }
        if (at < stretches.size())
            due += stretches[at];
    }
    sg::this_actor::sleep_until(due);
    ended = std::max(ended, due);
}

// Occupies the processor that is free first, from `now` on; returns when it is done.
static double occupy(Free& free, double now, double takes)
{
    double done = std::max(now, free.top()) + takes;
    free.pop();
    free.push(done);
    return done;
}

static void serve(sg::Mailbox* requests, sg::Mailbox* replies, int calls, Free* free, double takes)
{
    for (int call = 0; call < calls; call++) {
        requests->get<char>();
        sg::this_actor::sleep_until(occupy(*free, sg::Engine::get_clock(), takes));
        replies->put_init(const_cast<char*>("reply"), 1)->detach();
    }
}

static void call_remotely(sg::Mailbox* requests, sg::Mailbox* replies, int calls, Free* free, double takes, double receives)
{
    double received = 0;
    for (int call = 0; call < calls; call++) {
        sg::this_actor::sleep_until(occupy(*free, sg::Engine::get_clock(), received + takes));
        requests->put_init(const_cast<char*>("request"), 1)->detach();
        replies->get<char>();
        received = receives;
    }
    ended = std::max(ended, occupy(*free, sg::Engine::get_clock(), receives));
}

int main(int count, char** given)
{
    xbt_log_control_set("root.thresh:warning");
    sg::Engine engine(&count, given);
    // A message takes the link's delay, and nothing else.
    sg::Engine::set_config("network/model:CM02");
    sg::Engine::set_config("network/TCP-gamma:0");
    std::string what = given[1];
    int clients = std::stoi(given[2]), calls = std::stoi(given[3]);
    std::vector<double> times;
    for (int at = 4; at < count; at++)
        times.push_back(std::stod(given[at]) / 1e9);

    auto* zone = sg::create_full_zone("all");
    auto* here = zone->create_host("here", 1e9);
    auto* there = zone->create_host("there", 1e9);
    double lock = 0;
    Free own, others;
    if (what == "calls") {
        zone->seal();
        for (int client = 0; client < clients; client++)
            sg::Actor::create("client", here, call_locally, calls, times, clients == 1 ? nullptr : &lock);
    } else {
        int processors = std::stoi(given[4]);
        times.erase(times.begin());
        for (int at = 0; at < processors; at++)
            own.push(0), others.push(0);
        auto* link = zone->create_link("link", 1e18)->set_latency(times[0]);
        zone->add_route(here->get_netpoint(), there->get_netpoint(), nullptr, nullptr, {sg::LinkInRoute(link)});
        zone->seal();
        for (int client = 0; client < clients; client++) {
            auto* requests = sg::Mailbox::by_name("requests" + std::to_string(client));
            auto* replies = sg::Mailbox::by_name("replies" + std::to_string(client));
            sg::Actor::create("server", there, serve, requests, replies, calls, &others, times[2]);
            sg::Actor::create("client", here, call_remotely, requests, replies, calls, &own, times[1], times[3]);
        }
    }
    std::clock_t began = std::clock();
    engine.run();
    double seconds = double(std::clock() - began) / CLOCKS_PER_SEC;
    std::printf("%.0f %.6f\n", std::round(ended * 1e9), seconds);
}
