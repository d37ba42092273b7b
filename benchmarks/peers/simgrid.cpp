// The models of simpy_models.py, remote.py and rings.py with the fewest events, for SimGrid.
//
//     simgrid calls CLIENTS CALLS NS...
//     simgrid remote CLIENTS CALLS PROCESSORS DELAY CLIENT SERVER RECEIVE
//     simgrid ring MACHINES ROUNDS OWN NS DELAY CLIENT SERVER RECEIVE
//
// Times are in ns. NS are the stretches of a call: outside a lock and under it, in turn; in a ring
// the one stretch of OWN calls of a machine's own. Prints the
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

static void go_round(sg::Mailbox* requests, sg::Mailbox* replies, int rounds, int own, std::vector<double> times)
{
    double received = 0;
    for (int round = 0; round < rounds; round++) {
        for (int call = 0; call < own; call++) {
            sg::this_actor::sleep_for(received + times[0]);
            received = 0;
        }
        sg::this_actor::sleep_for(times[2]);
        requests->put_init(const_cast<char*>("request"), 1)->detach();
        replies->get<char>();
        received = times[4];
    }
    sg::this_actor::sleep_for(received);
    ended = std::max(ended, sg::Engine::get_clock());
}

static void answer(sg::Mailbox* requests, sg::Mailbox* replies, int rounds, double takes)
{
    for (int round = 0; round < rounds; round++) {
        requests->get<char>();
        sg::this_actor::sleep_for(takes);
        replies->put_init(const_cast<char*>("reply"), 1)->detach();
    }
}

// Makes machines in a ring: a client and a server each, which serves the one before.
static void make_ring(int machines, int rounds, int own, const std::vector<double>& times)
{
    auto* zone = sg::create_full_zone("all");
    auto* link = zone->create_link("link", 1e18)->set_sharing_policy(sg::Link::SharingPolicy::FATPIPE)->set_latency(times[1]);
    std::vector<sg::Host*> hosts;
    for (int number = 0; number < machines; number++)
        hosts.push_back(zone->create_host("m" + std::to_string(number), 1e9));
    for (int number = 0; number < machines; number++)
        zone->add_route(hosts[number]->get_netpoint(), hosts[(number + 1) % machines]->get_netpoint(), nullptr, nullptr,
                        {sg::LinkInRoute(link)});
    zone->seal();
    for (int number = 0; number < machines; number++) {
        auto* requests = sg::Mailbox::by_name("requests" + std::to_string(number));
        auto* replies = sg::Mailbox::by_name("replies" + std::to_string(number));
        sg::Actor::create("server", hosts[(number + 1) % machines], answer, requests, replies, rounds, times[3]);
        sg::Actor::create("client", hosts[number], go_round, requests, replies, rounds, own, times);
    }
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
    for (int at = what == "ring" ? 5 : 4; at < count; at++)
        times.push_back(std::stod(given[at]) / 1e9);

    double lock = 0;
    Free own, others;
    if (what == "ring") {
        make_ring(clients, calls, std::stoi(given[4]), times);
    } else if (what == "calls") {
        auto* zone = sg::create_full_zone("all");
        auto* here = zone->create_host("here", 1e9);
        zone->seal();
        for (int client = 0; client < clients; client++)
            sg::Actor::create("client", here, call_locally, calls, times, clients == 1 ? nullptr : &lock);
    } else {
        auto* zone = sg::create_full_zone("all");
        auto* here = zone->create_host("here", 1e9);
        auto* there = zone->create_host("there", 1e9);
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
